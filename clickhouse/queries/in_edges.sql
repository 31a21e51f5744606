    INNER JOIN edges AS e USING (organization_id, external_subscription_id, code)
    WHERE (v.organization_id, v.external_subscription_id, v.code) IN (
        SELECT organization_id, external_subscription_id, code FROM edges
    )
        AND v.timestamp >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
        AND v.timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND v.aggregation = {{aggregation}}
        AND toUnixTimestamp64Milli(v.timestamp) >= e.from_ms
        AND toUnixTimestamp64Milli(v.timestamp) < e.end_ms

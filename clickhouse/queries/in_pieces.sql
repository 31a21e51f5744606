    INNER JOIN pieces AS p ON p.hour = v.hour
    WHERE v.organization_id = {organization_id:UUID}
        AND v.code IN {codes:Array(String)}
        AND ({any_subscription:Bool} OR v.external_subscription_id IN {subscriptions:Array(String)})
        AND v.aggregation = {{aggregation}}
        AND v.timestamp >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
        AND v.timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND v.hour IN (SELECT hour FROM pieces)
        AND toUnixTimestamp64Milli(v.timestamp) >= p.from_ms
        AND toUnixTimestamp64Milli(v.timestamp) < p.end_ms

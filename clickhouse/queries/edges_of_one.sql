    WHERE v.organization_id = {organization_id:UUID}
        AND v.external_subscription_id = {external_subscription_id:String}
        AND v.code IN {codes:Array(String)}
        AND v.aggregation = {{aggregation}}
        AND (
            v.timestamp >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
            AND v.timestamp < fromUnixTimestamp64Milli({before_hours_ms:Int64}, 'UTC')
            OR v.timestamp >= fromUnixTimestamp64Milli({after_hours_ms:Int64}, 'UTC')
            AND v.timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        )

-- The same for any window: its whole hours from the rollup, the rest from the raw table.
SELECT code, sum(n) AS events_count, max(best) AS units
FROM
(
    SELECT code, sum(events_count) AS n, max(usage_max.top) AS best
    FROM usage_max
    WHERE organization_id = {organization_id:UUID}
        AND external_subscription_id = {external_subscription_id:String}
        AND code IN {codes:Array(String)}
        AND hour >= {from_hour:Int32}
        AND hour < {end_hour:Int32}
    GROUP BY code
    UNION ALL
    SELECT code, toInt64(count()) AS n, max(value) AS best
    FROM events
    WHERE organization_id = {organization_id:UUID}
        AND external_subscription_id = {external_subscription_id:String}
        AND code IN {codes:Array(String)}
        AND aggregation = 'max_agg'
        AND (
            timestamp >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
            AND timestamp < fromUnixTimestamp64Milli({before_hours_ms:Int64}, 'UTC')
            OR timestamp >= fromUnixTimestamp64Milli({after_hours_ms:Int64}, 'UTC')
            AND timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        )
    GROUP BY code
)
GROUP BY code
SETTINGS max_threads = 1

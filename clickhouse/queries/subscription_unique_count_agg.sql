-- The same for any window: its whole hours from the rollup, the rest from the raw table.
SELECT code, count() AS events_count, toDecimal256(events_count, 0) AS units
FROM
(
    SELECT code, item, max(final) AS last_of_all
    FROM
    (
        SELECT code, item, max(usage_unique.last) AS final
        FROM usage_unique
        WHERE organization_id = {organization_id:UUID}
            AND external_subscription_id = {external_subscription_id:String}
            AND code IN {codes:Array(String)}
            AND hour >= {from_hour:Int32}
            AND hour < {end_hour:Int32}
            AND item != ''
        GROUP BY code, item
        UNION ALL
        SELECT code, item, max(concat(leftPad(toString(toUnixTimestamp64Milli(timestamp)), 15, '0'), replaceAll(transaction_id, '\0', '\0\1'), '\0\0', toString(toInt8(operation)))) AS final
        FROM events
        WHERE organization_id = {organization_id:UUID}
            AND external_subscription_id = {external_subscription_id:String}
            AND code IN {codes:Array(String)}
            AND aggregation = 'unique_count_agg'
            AND (
                timestamp >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
                AND timestamp < fromUnixTimestamp64Milli({before_hours_ms:Int64}, 'UTC')
                OR timestamp >= fromUnixTimestamp64Milli({after_hours_ms:Int64}, 'UTC')
                AND timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            )
            AND item != ''
        GROUP BY code, item
    )
    GROUP BY code, item
)
WHERE endsWith(last_of_all, '0')
GROUP BY code
SETTINGS max_threads = 1

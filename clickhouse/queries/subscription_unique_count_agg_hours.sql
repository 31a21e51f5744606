-- The number of items present in each of a subscription's metrics in whole hours, from the rollup.
SELECT code, count() AS events_count, toDecimal256(events_count, 0) AS units
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
)
WHERE endsWith(final, '0')
GROUP BY code
SETTINGS max_threads = 1

-- The number of events of each of a subscription's metrics in whole hours, from the rollup.
SELECT code, sum(events_count) AS n, toDecimal256(n, 0)
FROM usage_count
WHERE organization_id = {organization_id:UUID}
    AND external_subscription_id = {external_subscription_id:String}
    AND code IN {codes:Array(String)}
    AND hour >= {from_hour:Int32}
    AND hour < {end_hour:Int32}
GROUP BY code
SETTINGS max_threads = 1

-- The sum of the values of each of a subscription's metrics in whole hours, from the rollup.
SELECT code, sum(events_count), sum(total)
FROM usage_sum
WHERE organization_id = {organization_id:UUID}
    AND external_subscription_id = {external_subscription_id:String}
    AND code IN {codes:Array(String)}
    AND hour >= {from_hour:Int32}
    AND hour < {end_hour:Int32}
GROUP BY code
SETTINGS max_threads = 1

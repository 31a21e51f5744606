-- The sum of the values of each of a subscription's metrics in whole hours, from the rollup.
SELECT code, n AS events_count, amount AS units
FROM
(
    SELECT code, sum(events_count) AS n, sum(usage_sum.total) AS amount
    FROM usage_sum
    WHERE organization_id = {organization_id:UUID}
        AND external_subscription_id = {external_subscription_id:String}
        AND code IN {codes:Array(String)}
        AND hour >= {from_hour:Int32}
        AND hour < {end_hour:Int32}
    GROUP BY code
)

-- One subscription's usage of some metrics in whole hours, from the rollup. Where nothing splits it there is no split: a query
-- is read and planned for longer than it runs.
SELECT u.code AS code, {{kept_split}} {{kept}}
FROM {{table}} AS u
WHERE u.organization_id = {organization_id:UUID}
    AND u.external_subscription_id = {external_subscription_id:String}
    AND u.code IN {codes:Array(String)}
    AND u.hour >= {from_hour:Int32}
    AND u.hour < {end_hour:Int32}
GROUP BY code {{by_split}}
SETTINGS max_threads = 1

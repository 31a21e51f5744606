-- The number of items present in some of a subscription's metrics in whole hours, from the rollup.
SELECT part.code AS code, count()
FROM
(
    SELECT u.code AS code, u.item AS item, {{kept}}
    FROM {{table}} AS u
    WHERE u.organization_id = {organization_id:UUID}
        AND u.external_subscription_id = {external_subscription_id:String}
        AND u.code IN {codes:Array(String)}
        AND u.hour >= {from_hour:Int32}
        AND u.hour < {end_hour:Int32}
        AND u.item != ''
    GROUP BY code, item
) AS part
WHERE endsWith(part.last, '0')
GROUP BY code
SETTINGS max_threads = 1

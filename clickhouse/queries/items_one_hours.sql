-- The items of some of a subscription's metrics in whole hours, from the rollup: how many were seen by the same values of the
-- keys, and present by the same of them.
SELECT item.code AS code, item.seen AS seen, count()
FROM
(
    SELECT
        part.code AS code,
        part.item AS item,
-- include: items_seen
    FROM
    (
        SELECT u.code AS code, {{kept_split}} AS split, u.item AS item, {{kept}}
        FROM {{table}} AS u
        WHERE u.organization_id = {organization_id:UUID}
            AND u.external_subscription_id = {external_subscription_id:String}
            AND u.code IN {codes:Array(String)}
            AND u.hour >= {from_hour:Int32}
            AND u.hour < {end_hour:Int32}
            AND u.item != ''
        GROUP BY code, split, item
    ) AS part
    GROUP BY code, item
) AS item
GROUP BY code, seen
SETTINGS max_threads = 1

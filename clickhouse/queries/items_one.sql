-- The same for any span: its whole hours from the rollup, the rest from the raw table.
SELECT whole.code AS code, count()
FROM
(
    SELECT part.code AS code, part.item AS item, {{folded}}
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
        UNION ALL
        SELECT v.code AS code, v.item AS item, {{raw}}
        FROM events AS v
-- include: edges_of_one
            AND v.item != ''
        GROUP BY code, item
    ) AS part
    GROUP BY code, item
) AS whole
WHERE endsWith(whole.last, '0')
GROUP BY code
SETTINGS max_threads = 1

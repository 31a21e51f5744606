-- The same for any span: its whole hours from the rollup, the rest from the raw table.
SELECT part.code AS code, {{part_split}} {{folded}}
FROM
(
    SELECT u.code AS code, {{kept_split}} {{kept}}
    FROM {{table}} AS u
    WHERE u.organization_id = {organization_id:UUID}
        AND u.external_subscription_id = {external_subscription_id:String}
        AND u.code IN {codes:Array(String)}
        AND u.hour >= {from_hour:Int32}
        AND u.hour < {end_hour:Int32}
    GROUP BY code {{by_split}}
    UNION ALL
    SELECT v.code AS code, {{raw_split}} {{raw}}
    FROM events AS v
-- include: edges_of_one
    GROUP BY code {{by_split}}
) AS part
GROUP BY code {{by_split}}
SETTINGS max_threads = 1

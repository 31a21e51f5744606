-- The same for any span: its whole hours from the rollup, the rest from the raw table.
SELECT part.code AS code, {{part_split}} {{folded}}
FROM
(
    SELECT u.code AS code, {{kept_split}} {{kept}}
    FROM {{table}} AS u
-- include: hours_of_one
    GROUP BY code {{by_split}}
    UNION ALL
    SELECT v.code AS code, {{raw_split}} {{raw}}
    FROM events AS v
-- include: edges_of_one
    GROUP BY code {{by_split}}
) AS part
GROUP BY code {{by_split}}
SETTINGS max_threads = 1

-- The same for any span: its whole hours from the rollup, the rest from the raw table.
SELECT part.code AS code, uniqExactIf(part.item, notEmpty(part.item)) AS present, sum(part.removes) AS removed
FROM
(
    SELECT u.code AS code, u.item AS item, u.removes AS removes
    FROM {{table}} AS u
-- include: hours_of_one
    UNION ALL
    SELECT v.code AS code, v.item AS item, toInt64(v.operation = 'remove') AS removes
    FROM events AS v
-- include: edges_of_one
) AS part
GROUP BY code
SETTINGS max_threads = 1

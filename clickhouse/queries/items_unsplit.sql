-- The same for any span: its whole hours from the rollup, the rest from the raw table.
SELECT item.code AS code, countIf(endsWith(item.last, '0')) AS present
FROM
(
    SELECT part.code AS code, part.item AS item, max(part.last) AS last
    FROM
    (
        SELECT u.code AS code, u.item AS item, u.last AS last
        FROM {{table}} AS u
-- include: hours_of_one
            AND u.item != ''
        UNION ALL
        SELECT v.code AS code, v.item AS item, {{last}} AS last
        FROM events AS v
-- include: edges_of_one
            AND v.item != ''
    ) AS part
    GROUP BY code, item
) AS item
GROUP BY code
HAVING present > 0
SETTINGS max_threads = 1

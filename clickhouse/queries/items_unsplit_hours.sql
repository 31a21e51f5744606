-- How many items of some of a subscription's metrics are present, where nothing splits them: in whole hours, from the rollup.
SELECT item.code AS code, countIf(endsWith(item.last, '0')) AS present
FROM
(
    SELECT u.code AS code, u.item AS item, max(u.last) AS last
    FROM {{table}} AS u
-- include: hours_of_one
        AND u.item != ''
    GROUP BY code, item
) AS item
GROUP BY code
HAVING present > 0
SETTINGS max_threads = 1

-- The same in whole hours, from the rollup.
SELECT u.code AS code, uniqExactIf(u.item, notEmpty(u.item)) AS present, sum(u.removes) AS removed
FROM {{table}} AS u
-- include: hours_of_one
GROUP BY code
SETTINGS max_threads = 1

-- One subscription's usage of some metrics in whole hours, from the rollup. Where nothing splits it there is no split: a query
-- is read and planned for longer than it runs.
SELECT u.code AS code, {{kept_split}} {{kept}}
FROM {{table}} AS u
-- include: hours_of_one
GROUP BY code {{by_split}}
SETTINGS max_threads = 1

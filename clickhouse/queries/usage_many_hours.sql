-- The same of windows that are made of whole hours, from the rollup.
-- include: windows
SELECT w.id AS id, arrayMap(k -> u.dimensions[k], w.keys) AS split, {{kept}}
FROM {{table}} AS u
-- include: in_windows
GROUP BY id, split

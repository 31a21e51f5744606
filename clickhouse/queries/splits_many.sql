-- By which values of its keys the usage of each window is split.
-- include: windows
SELECT id, split
FROM
(
    SELECT w.id AS id, arrayMap(k -> u.dimensions[k], w.keys) AS split
    FROM {{table}} AS u
-- include: in_windows
    GROUP BY id, split
    UNION ALL
    SELECT e.id AS id, arrayMap(k -> v.properties[k], e.keys) AS split
    FROM events AS v
-- include: in_edges
    GROUP BY id, split
)
GROUP BY id, split

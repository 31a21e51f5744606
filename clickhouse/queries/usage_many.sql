-- The usage of any number of windows, each split by the values of its keys. Whole hours come from the rollup, what a
-- window has outside of them (its edges) from the raw table. Half-open throughout.
-- include: windows
,
-- include: edges
SELECT part.id AS id, part.split AS split, {{folded}}
FROM
(
    SELECT w.id AS id, arrayMap(k -> u.dimensions[k], w.keys) AS split, {{kept}}
    FROM {{table}} AS u
-- include: in_windows
    GROUP BY id, split
    UNION ALL
    SELECT e.id AS id, arrayMap(k -> v.properties[k], e.keys) AS split, {{raw}}
    FROM events AS v
-- include: in_edges
    GROUP BY id, split
) AS part
GROUP BY id, split

-- The items of any number of windows: how many were seen by the same values of the keys, and present by the same of them.
-- include: windows
,
-- include: edges
SELECT item.id AS id, item.seen AS seen, count()
FROM
(
    SELECT
        part.id AS id,
        part.item AS item,
-- include: items_seen
    FROM
    (
        SELECT w.id AS id, arrayMap(k -> u.dimensions[k], w.keys) AS split, u.item AS item, {{kept}}
        FROM {{table}} AS u
-- include: in_windows
            AND u.item != ''
        GROUP BY id, split, item
        UNION ALL
        SELECT e.id AS id, arrayMap(k -> v.properties[k], e.keys) AS split, v.item AS item, {{raw}}
        FROM events AS v
-- include: in_edges
            AND v.item != ''
        GROUP BY id, split, item
    ) AS part
    GROUP BY id, item
) AS item
GROUP BY id, seen

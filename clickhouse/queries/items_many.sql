-- The items of any number of windows: how many were seen by the same values of the keys, and present by the same of them.
-- include: windows
,
-- include: edges
-- include: items_many_begun
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

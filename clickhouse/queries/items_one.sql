-- The same for any span: its whole hours from the rollup, the rest from the raw table.
-- include: items_one_begun
        UNION ALL
        SELECT v.code AS code, {{raw_split}} v.item AS item, {{raw}}
        FROM events AS v
-- include: edges_of_one
            AND v.item != ''
        GROUP BY code, split, item
    ) AS part
    GROUP BY code, item
) AS item
GROUP BY code, seen
SETTINGS max_threads = 1

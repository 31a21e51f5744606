-- The same of windows that are made of whole hours, from the rollup.
-- include: windows
-- include: items_many_begun
    ) AS part
    GROUP BY id, item
) AS item
GROUP BY id, seen

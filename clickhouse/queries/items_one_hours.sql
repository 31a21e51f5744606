-- The items of some of a subscription's metrics in whole hours, from the rollup: how many were seen by the same values of the
-- keys, and present by the same of them.
-- include: items_one_begun
    ) AS part
    GROUP BY code, item
) AS item
GROUP BY code, seen
SETTINGS max_threads = 1

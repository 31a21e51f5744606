-- The blocks of hours in which there is anything to compare.
SELECT DISTINCT intDiv(hour, {block:Int32}) AS block
FROM
(
    SELECT DISTINCT hour FROM events
    UNION ALL
    SELECT DISTINCT hour FROM usage_count
    UNION ALL
    SELECT DISTINCT hour FROM usage_sum
    UNION ALL
    SELECT DISTINCT hour FROM usage_max
    UNION ALL
    SELECT DISTINCT hour FROM usage_latest
    UNION ALL
    SELECT DISTINCT hour FROM usage_unique
    UNION ALL
    SELECT DISTINCT hour FROM usage_weighted
)
ORDER BY block

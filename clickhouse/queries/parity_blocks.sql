-- The blocks of hours in which there is anything to compare.
SELECT DISTINCT intDiv(hour, {block:Int32}) AS block
FROM
(
    SELECT DISTINCT hour FROM events
{{each_rollup}}
)
ORDER BY block

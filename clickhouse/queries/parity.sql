-- How many cells (hours of a subscription and metric) have other numbers of events in their rollup than among the events
-- themselves, by aggregation. Cells with an event ingested at or after `settled_before_us` are left out.
SELECT aggregation, count() AS cells
FROM
(
    SELECT aggregation
    FROM
    (
        SELECT aggregation, cell, bucket, sum(n) AS missing, max(ingested_us) AS newest_us
        FROM
        (
            -- include: parity_both
        )
        GROUP BY aggregation, cell, bucket
    )
    GROUP BY aggregation, cell
    HAVING countIf(missing != 0) > 0 AND max(newest_us) < {settled_before_us:Int64}
)
GROUP BY aggregation

-- Between which instants the events of a page were ingested, and how many of those before it are newer. Only the order is
-- read, from its end.
SELECT times[{offset:UInt64} + 1] AS newest, times[-1], arrayCount(time -> time > newest, times)
FROM
(
    SELECT groupArray(ingested_at) AS times
    FROM
    (
        SELECT ingested_at
        FROM event_arrivals
        WHERE {{matching}}
            AND ingested_at >= {ingested_from:DateTime64(6, 'UTC')}
            AND ingested_at <= {ingested_to:DateTime64(6, 'UTC')}
        ORDER BY ingested_at DESC
        LIMIT {end:UInt64}
    )
)

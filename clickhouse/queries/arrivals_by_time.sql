-- How many events came in each stretch of time, newest first: how a page far down is found without counting up to it.
SELECT intDiv(toUnixTimestamp(ingested_at), {seconds:UInt32}) AS stretch, count()
FROM event_arrivals
WHERE {{matching}}
    AND ingested_at >= {ingested_from:DateTime64(6, 'UTC')}
    AND ingested_at <= {ingested_to:DateTime64(6, 'UTC')}
GROUP BY stretch
ORDER BY stretch DESC

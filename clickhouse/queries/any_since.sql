-- Whether any event was ingested at or after an instant, or noted as an arrival.
SELECT 1
FROM events
WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
LIMIT 1
UNION ALL
SELECT 1
FROM event_arrivals
WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
LIMIT 1

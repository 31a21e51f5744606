-- The organizations that sent events in a span of time.
SELECT DISTINCT organization_id
FROM events
WHERE ingested_at >= {from:DateTime64(6, 'UTC')} AND ingested_at < {end:DateTime64(6, 'UTC')}

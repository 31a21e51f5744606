-- When the first event at or after an instant was ingested; no row where there is none.
SELECT min(ingested_at)
FROM events
WHERE ingested_at >= {from:DateTime64(6, 'UTC')}
HAVING count() > 0

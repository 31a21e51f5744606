-- How many events there are, and when the newest was ingested.
SELECT count(), max(ingested_at)
FROM events

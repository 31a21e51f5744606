-- How many events match a filter.
SELECT count()
FROM events
WHERE
-- include: matching_events

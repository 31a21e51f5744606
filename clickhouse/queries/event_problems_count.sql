-- How many events have each reason, by code.
SELECT reason, code, count() AS events_count
FROM
(
-- include: event_problems
)
GROUP BY reason, code
SETTINGS optimize_move_to_prewhere = 1

-- A page of the events with a reason, in the order they are stored in.
SELECT *
FROM
(
-- include: event_problems
)
ORDER BY external_subscription_id, code, timestamp_ms, transaction_id, ingested_at
LIMIT {limit:UInt32} OFFSET {offset:UInt64}
SETTINGS optimize_move_to_prewhere = 1

-- The single events of any number of windows in the order in which they came, each with the values of its window's keys;
-- of those ingested up to an instant, but for some.
WITH
-- include: edges
SELECT
    e.id AS id,
    arrayMap(k -> v.properties[k], e.keys) AS split,
    toUnixTimestamp64Milli(v.timestamp) AS at,
    v.transaction_id AS transaction_id,
    v.value AS amount,
    v.item AS item,
    v.operation AS operation,
    v.precise_total_amount_cents AS precise
FROM events AS v
-- include: in_edges
    AND v.ingested_at <= {until:DateTime64(6, 'UTC')}
    AND (v.external_subscription_id, v.transaction_id) NOT IN (
        SELECT b.1, b.2
        FROM (SELECT arrayJoin({but:Array(Tuple(String, String))}) AS b)
    )
ORDER BY id, v.ingested_at, at, transaction_id

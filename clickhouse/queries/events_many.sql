-- The single events of any number of windows in the order of time, each with the values of its window's keys.
WITH
-- include: edges
SELECT
    e.id AS id,
    arrayMap(k -> v.properties[k], e.keys) AS split,
    toUnixTimestamp64Milli(v.timestamp) AS at,
    v.transaction_id AS transaction_id,
    v.value AS amount,
    v.item AS item,
    v.operation AS operation
FROM events AS v
-- include: in_edges
ORDER BY id, at, transaction_id

-- The last operation of some items in each of any number of windows, in the order of time, by the values of the window's
-- keys; of the events ingested up to an instant, but for some.
WITH
-- include: edges
SELECT
    e.id AS id,
    arrayMap(k -> v.properties[k], e.keys) AS split,
    v.item AS item,
    argMax(
        (toUnixTimestamp64Milli(v.timestamp), v.transaction_id, v.operation = 'add'),
        (v.timestamp, v.transaction_id)
    ) AS last
FROM events AS v
-- include: in_edges
    AND v.item IN {items:Array(String)}
    AND v.ingested_at <= {until:DateTime64(6, 'UTC')}
    AND (v.external_subscription_id, v.transaction_id) NOT IN (
        SELECT b.1, b.2
        FROM (SELECT arrayJoin({but:Array(Tuple(String, String))}) AS b)
    )
GROUP BY id, split, item

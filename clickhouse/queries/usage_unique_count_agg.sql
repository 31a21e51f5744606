-- Number of items in each window whose last operation added them. Events without an item do not count.
-- Whole hours of a window come from the rollup, its edges (parts of an hour) from the raw table. Half-open throughout.
WITH windows AS
(
    SELECT w.1 AS id, w.2 AS organization_id, w.3 AS external_subscription_id, w.4 AS code, w.5 AS from_hour, w.6 AS end_hour
    FROM (SELECT arrayJoin({windows:Array(Tuple(UInt32, UUID, String, String, Int32, Int32))}) AS w)
),
edges AS
(
    SELECT e.1 AS id, e.2 AS organization_id, e.3 AS external_subscription_id, e.4 AS code, e.5 AS from_ms, e.6 AS end_ms
    FROM (SELECT arrayJoin({edges:Array(Tuple(UInt32, UUID, String, String, Int64, Int64))}) AS e)
)
SELECT id, count() AS events_count, toDecimal256(events_count, 0) AS units
FROM
(
    SELECT id, item, max(last) AS final
    FROM
    (
        SELECT w.id AS id, u.item AS item, max(u.last) AS last
        FROM usage_unique AS u
        INNER JOIN windows AS w USING (organization_id, external_subscription_id, code)
        WHERE (u.organization_id, u.external_subscription_id, u.code) IN (
            SELECT organization_id, external_subscription_id, code FROM windows
        )
            AND u.hour >= {first_hour:Int32}
            AND u.hour < {end_hour:Int32}
            AND u.hour >= w.from_hour
            AND u.hour < w.end_hour
        GROUP BY id, item
        UNION ALL
        SELECT e.id AS id, v.item AS item, max(concat(leftPad(toString(toUnixTimestamp64Milli(v.timestamp)), 15, '0'), replaceAll(v.transaction_id, '\0', '\0\1'), '\0\0', toString(toInt8(v.operation))))
        FROM events AS v
        INNER JOIN edges AS e USING (organization_id, external_subscription_id, code)
        WHERE (v.organization_id, v.external_subscription_id, v.code) IN (
            SELECT organization_id, external_subscription_id, code FROM edges
        )
            AND v.timestamp >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
            AND v.timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
            AND v.aggregation = 'unique_count_agg'
            AND toUnixTimestamp64Milli(v.timestamp) >= e.from_ms
            AND toUnixTimestamp64Milli(v.timestamp) < e.end_ms
        GROUP BY id, item
    )
    WHERE item != ''
    GROUP BY id, item
)
WHERE endsWith(final, '0')
GROUP BY id

-- Puts cells of usage_unique right: adds what the raw table has and the rollup lacks (or takes away what it has too much of).
-- One insert, so a reader sees the cell before or after, never in between.
INSERT INTO usage_unique
SELECT organization_id, external_subscription_id, code, hour, dimensions, item, sum(missing) AS events_count, max(latest) AS last
FROM
(
    SELECT organization_id, external_subscription_id, code, hour, dimensions, item, toInt64(count()) AS missing, max(concat(leftPad(toString(toUnixTimestamp64Milli(timestamp)), 15, '0'), replaceAll(transaction_id, '\0', '\0\1'), '\0\0', toString(toInt8(operation)))) AS latest
    FROM events
    WHERE aggregation = 'unique_count_agg' AND (organization_id, external_subscription_id, code, hour) IN (
        SELECT cell.1, cell.2, cell.3, cell.4
        FROM (SELECT arrayJoin({cells:Array(Tuple(UUID, String, String, Int32))}) AS cell)
    )
    GROUP BY organization_id, external_subscription_id, code, hour, dimensions, item
    UNION ALL
    SELECT organization_id, external_subscription_id, code, hour, dimensions, item, -sum(events_count), max(usage_unique.last)
    FROM usage_unique
    WHERE (organization_id, external_subscription_id, code, hour) IN (
        SELECT cell.1, cell.2, cell.3, cell.4
        FROM (SELECT arrayJoin({cells:Array(Tuple(UUID, String, String, Int32))}) AS cell)
    )
    GROUP BY organization_id, external_subscription_id, code, hour, dimensions, item
)
GROUP BY organization_id, external_subscription_id, code, hour, dimensions, item
HAVING events_count != 0

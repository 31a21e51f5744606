-- Puts cells of usage_max right: adds what the raw table has and the rollup lacks (or takes away what it has too much of).
-- One insert, so a reader sees the cell before or after, never in between.
INSERT INTO usage_max
SELECT organization_id, external_subscription_id, code, hour, dimensions, sum(missing) AS events_count, max(best) AS top
FROM
(
    SELECT organization_id, external_subscription_id, code, hour, dimensions, toInt64(count()) AS missing, max(value) AS best
    FROM events
    WHERE aggregation = 'max_agg' AND (organization_id, external_subscription_id, code, hour) IN (
        SELECT cell.1, cell.2, cell.3, cell.4
        FROM (SELECT arrayJoin({cells:Array(Tuple(UUID, String, String, Int32))}) AS cell)
    )
    GROUP BY organization_id, external_subscription_id, code, hour, dimensions
    UNION ALL
    SELECT organization_id, external_subscription_id, code, hour, dimensions, -sum(events_count), max(top)
    FROM usage_max
    WHERE (organization_id, external_subscription_id, code, hour) IN (
        SELECT cell.1, cell.2, cell.3, cell.4
        FROM (SELECT arrayJoin({cells:Array(Tuple(UUID, String, String, Int32))}) AS cell)
    )
    GROUP BY organization_id, external_subscription_id, code, hour, dimensions
)
GROUP BY organization_id, external_subscription_id, code, hour, dimensions
HAVING events_count != 0

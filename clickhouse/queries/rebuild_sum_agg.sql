-- Puts cells of usage_sum right: adds what the raw table has and the rollup lacks (or takes away what it has too much of).
-- One insert, so a reader sees the cell before or after, never in between.
INSERT INTO usage_sum
SELECT organization_id, external_subscription_id, code, hour, dimensions, sum(missing) AS events_count, sum(short) AS total, sum(precise_short) AS precise_total_amount_cents
FROM
(
    SELECT organization_id, external_subscription_id, code, hour, dimensions, toInt64(count()) AS missing, sum(toDecimal256(value, 18)) AS short, sum(toDecimal256(ifNull(precise_total_amount_cents, 0), 18)) AS precise_short
    FROM events
    WHERE aggregation = 'sum_agg' AND (organization_id, external_subscription_id, code, hour) IN (
        SELECT cell.1, cell.2, cell.3, cell.4
        FROM (SELECT arrayJoin({cells:Array(Tuple(UUID, String, String, Int32))}) AS cell)
    )
    GROUP BY organization_id, external_subscription_id, code, hour, dimensions
    UNION ALL
    SELECT organization_id, external_subscription_id, code, hour, dimensions, -sum(events_count), -sum(total), -sum(usage_sum.precise_total_amount_cents)
    FROM usage_sum
    WHERE (organization_id, external_subscription_id, code, hour) IN (
        SELECT cell.1, cell.2, cell.3, cell.4
        FROM (SELECT arrayJoin({cells:Array(Tuple(UUID, String, String, Int32))}) AS cell)
    )
    GROUP BY organization_id, external_subscription_id, code, hour, dimensions
)
GROUP BY organization_id, external_subscription_id, code, hour, dimensions
HAVING events_count != 0 OR total != 0 OR precise_total_amount_cents != 0

-- Cells whose rollup does not hold as many events as the raw table, among those that got events since an instant.
WITH touched AS
(
    SELECT organization_id, external_subscription_id, code, hour
    FROM events
    WHERE ingested_at >= {since:DateTime64(6, 'UTC')} AND aggregation != ''
    GROUP BY organization_id, external_subscription_id, code, hour
    HAVING max(ingested_at) < {settled_before:DateTime64(6, 'UTC')}
)
-- include: compare

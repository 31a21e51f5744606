-- The same among all cells of one metric.
WITH touched AS
(
    SELECT organization_id, external_subscription_id, code, hour
    FROM events
    WHERE organization_id = {organization_id:UUID} AND code = {code:String} AND aggregation != ''
    GROUP BY organization_id, external_subscription_id, code, hour
    HAVING max(ingested_at) < {settled_before:DateTime64(6, 'UTC')}
)
-- include: compare

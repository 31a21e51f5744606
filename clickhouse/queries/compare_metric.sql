-- The same among the cells of one metric in a stretch of hours.
WITH touched AS
(
    SELECT organization_id, external_subscription_id, code, hour
    FROM events
    WHERE organization_id = {organization_id:UUID}
        AND code = {code:String}
        AND aggregation != ''
        AND hour >= {first_hour:Int32}
        AND hour < {end_hour:Int32}
    GROUP BY organization_id, external_subscription_id, code, hour
    HAVING max(ingested_at) < {settled_before:DateTime64(6, 'UTC')}
)
-- include: compare

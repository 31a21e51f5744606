-- The same among the cells of usage windows that are about to be billed.
WITH touched AS
(
    SELECT organization_id, external_subscription_id, code, hour
    FROM events
    WHERE (organization_id, external_subscription_id, code) IN (
        SELECT w.1, w.2, w.3
        FROM (SELECT arrayJoin({windows:Array(Tuple(UUID, String, String, Int32, Int32))}) AS w)
    )
        AND hour >= {first_hour:Int32}
        AND hour < {end_hour:Int32}
        AND aggregation != ''
    GROUP BY organization_id, external_subscription_id, code, hour
    HAVING max(ingested_at) < {settled_before:DateTime64(6, 'UTC')}
)
-- include: compare

-- The events of some codes that were ingested after one instant and up to another, in the order in which they came, those
-- of one instant in the order of time; so many, and all that share the last instant.
SELECT
    external_subscription_id,
    code,
    toUnixTimestamp64Milli(timestamp) AS at,
    transaction_id,
    value,
    item,
    operation,
    properties,
    precise_total_amount_cents,
    ingested_at
FROM events
WHERE (organization_id, external_subscription_id, code, timestamp, transaction_id) IN (
    SELECT organization_id, external_subscription_id, code, timestamp, transaction_id
    FROM event_arrivals
    WHERE organization_id = {organization_id:UUID}
        AND ingested_at > {after:DateTime64(6, 'UTC')}
        AND ingested_at <= {until:DateTime64(6, 'UTC')}
        AND code IN {codes:Array(String)}
    ORDER BY ingested_at
    LIMIT {limit:UInt32} WITH TIES
)
    AND aggregation != ''
ORDER BY ingested_at, at, transaction_id, external_subscription_id
LIMIT 1 BY external_subscription_id, transaction_id

-- Stored events by key, found through the key table. A key that was accepted twice gives its first event.
SELECT
    organization_id,
    external_subscription_id,
    transaction_id,
    code,
    toUnixTimestamp64Milli(timestamp) AS timestamp_ms,
    properties,
    precise_total_amount_cents,
    ingested_at,
    replaced
FROM events
WHERE (organization_id, external_subscription_id, code, timestamp, transaction_id) IN (
    SELECT organization_id, external_subscription_id, code, timestamp, transaction_id
    FROM event_keys
    WHERE slot IN {slots:Array(UInt64)}
        AND (organization_id, transaction_id, external_subscription_id) IN (
            SELECT key.1, key.2, key.3
            FROM (SELECT arrayJoin({keys:Array(Tuple(UUID, String, String))}) AS key)
        )
)
ORDER BY ingested_at
LIMIT 1 BY organization_id, external_subscription_id, transaction_id

-- The latest ingested event with a transaction id.
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
    WHERE slot = {slot:UInt64} AND organization_id = {organization_id:UUID} AND transaction_id = {transaction_id:String}
)
ORDER BY ingested_at DESC
LIMIT 1

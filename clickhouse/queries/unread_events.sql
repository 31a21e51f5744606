-- Events of a metric that were kept before the metric could read them, a chunk at a time.
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
WHERE organization_id = {organization_id:UUID} AND code = {code:String} AND aggregation = ''
ORDER BY external_subscription_id, timestamp, transaction_id
LIMIT {limit:UInt32}

-- A page of an organization's events, newest ingested first.
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
WHERE organization_id = {organization_id:UUID}
    AND ({any_subscription:Bool} OR external_subscription_id = {external_subscription_id:String})
    AND ({any_code:Bool} OR code = {code:String})
    AND timestamp >= {from:DateTime64(3, 'UTC')}
    AND timestamp <= {to:DateTime64(3, 'UTC')}
ORDER BY events.ingested_at DESC, transaction_id
LIMIT {limit:UInt32} OFFSET {offset:UInt64}

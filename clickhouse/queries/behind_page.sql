-- A page of the events behind an amount, or of those that came too late for it, in the order of time.
SELECT
    v.organization_id,
    v.external_subscription_id,
    v.transaction_id,
    v.code,
    toUnixTimestamp64Milli(v.timestamp) AS timestamp_ms,
    v.properties,
    v.precise_total_amount_cents,
    v.ingested_at,
    v.replaced,
    toString(v.aggregation),
    v.value,
    v.item
-- include: behind_bucket
    AND (v.ingested_at > {until:DateTime64(6, 'UTC')}) = {late:Bool}
ORDER BY v.timestamp, v.transaction_id
LIMIT {limit:UInt32} OFFSET {offset:UInt64}

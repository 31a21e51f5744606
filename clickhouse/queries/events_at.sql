-- The events at these places of the table. `value` and `item` are what the event's metric reads of it.
SELECT
    external_subscription_id,
    code,
    toUnixTimestamp64Milli(timestamp) AS timestamp_ms,
    transaction_id,
    ingested_at,
    properties,
    precise_total_amount_cents,
    replaced,
    {{readings}}
FROM events
PREWHERE organization_id = {organization_id:UUID}
    AND events.timestamp >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
    AND events.timestamp <= fromUnixTimestamp64Milli({last_ms:Int64}, 'UTC')
    AND (external_subscription_id, code, events.timestamp, transaction_id) IN (
        SELECT place.1, place.2, fromUnixTimestamp64Milli(place.3, 'UTC'), place.4
        FROM (SELECT arrayJoin({places:Array(Tuple(String, String, Int64, String))}) AS place)
    )

-- A part of the matching events, in the order of the table's key: those after the last one of the part before. Properties
-- are what was sent, before an expression's result was put in. `value` is the number that the event's metric reads.
SELECT
    transaction_id,
    external_subscription_id,
    code,
    timestamp,
    toJSONString(mapFilter(
        (name, text) -> isNotNull(text),
        mapUpdate(CAST(v.properties, 'Map(String, Nullable(String))'), replaced)
    )) AS sent_properties,
    CAST(v.precise_total_amount_cents, 'Nullable(Decimal(38, 18))') AS precise_amount,
    if(aggregation IN ('', 'unique_count_agg'), NULL, v.value) AS read_value,
    ingested_at
FROM events AS v
WHERE {{matching}}
    AND ingested_at <= {ingested_until:DateTime64(6, 'UTC')}
    AND (
        {is_first:Bool}
        OR external_subscription_id > {after_subscription:String}
        OR external_subscription_id = {after_subscription:String} AND (
            code > {after_code:String}
            OR code = {after_code:String} AND (
                timestamp > fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC')
                OR timestamp = fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC')
                    AND transaction_id > {after_transaction:String}
            )
        )
    )
ORDER BY external_subscription_id, code, timestamp, transaction_id
LIMIT {limit:UInt64}

-- Where the events of a page are, newest ingested first. Only the columns of the order and of the filter are read for
-- all of them.
SELECT external_subscription_id, code, toUnixTimestamp64Milli(timestamp), transaction_id, ingested_at
FROM {{table}}
WHERE {{matching}}
    AND ingested_at >= {ingested_from:DateTime64(6, 'UTC')}
    AND ingested_at <= {ingested_to:DateTime64(6, 'UTC')}
ORDER BY ingested_at DESC, transaction_id
LIMIT {limit:UInt32} OFFSET {offset:UInt64}

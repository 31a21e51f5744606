-- The same for items: how many are present by the last operation on each in the bucket. An item is a subscription's own.
SELECT bucket, code, owner, split, sum(events_count), countIf(endsWith(last, '0'))
FROM
(
{{usage}}
)
GROUP BY bucket, code, owner, split
LIMIT {limit:UInt64}

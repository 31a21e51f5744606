-- Usage in buckets of time: whole hours from the rollup, the hours that lie in several buckets from the raw table.
-- Each bucket is split by metric, by owner (nobody, subscription or customer) and by the values of properties.
SELECT bucket, code, owner, split, {{names}}
FROM
(
{{usage}}
)
LIMIT {limit:UInt64}

-- weighted_sum_agg: the sum of an hour's values, and of each value times its second. A level that changes by v at t
-- weighs v * (end - t) until the end, so these two sums are enough for any window.
CREATE TABLE IF NOT EXISTS usage_weighted
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    hour Int32,
    dimensions Map(String, String),
    events_count SimpleAggregateFunction(sum, Int64),
    total SimpleAggregateFunction(sum, Decimal(76, 18)),
    moment SimpleAggregateFunction(sum, Decimal(76, 18))
)
ENGINE = AggregatingMergeTree
ORDER BY (organization_id, external_subscription_id, code, hour, dimensions)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_weighted_view TO usage_weighted AS
SELECT
    organization_id,
    external_subscription_id,
    code,
    hour,
    dimensions,
    toInt64(count()) AS events_count,
    sum(toDecimal256(value, 18)) AS total,
    sum(toDecimal256(value, 18) * intDiv(toUnixTimestamp64Milli(timestamp), 1000)) AS moment
FROM rollup_feed
WHERE aggregation = 'weighted_sum_agg'
GROUP BY organization_id, external_subscription_id, code, hour, dimensions;

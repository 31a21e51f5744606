-- sum_agg: the sum of an hour's values. Wider than one value, so that no number of events overflows it.
CREATE TABLE IF NOT EXISTS usage_sum
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    hour Int32,
    dimensions Map(String, String),
    events_count SimpleAggregateFunction(sum, Int64),
    total SimpleAggregateFunction(sum, Decimal(76, 18)),
    precise_total_amount_cents SimpleAggregateFunction(sum, Decimal(76, 18))
)
ENGINE = AggregatingMergeTree
ORDER BY (organization_id, external_subscription_id, code, hour, dimensions)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_sum_view TO usage_sum AS
SELECT
    organization_id,
    external_subscription_id,
    code,
    hour,
    dimensions,
    toInt64(count()) AS events_count,
    sum(toDecimal256(value, 18)) AS total,
    sum(toDecimal256(ifNull(precise_total_amount_cents, 0), 18)) AS precise_total_amount_cents
FROM rollup_feed
WHERE aggregation = 'sum_agg'
GROUP BY organization_id, external_subscription_id, code, hour, dimensions;

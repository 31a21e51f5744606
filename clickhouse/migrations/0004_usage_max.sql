-- max_agg: the largest value of an hour.
CREATE TABLE IF NOT EXISTS usage_max
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    hour Int32,
    dimensions Map(String, String),
    events_count SimpleAggregateFunction(sum, Int64),
    top SimpleAggregateFunction(max, Decimal(38, 18))
)
ENGINE = AggregatingMergeTree
ORDER BY (organization_id, external_subscription_id, code, hour, dimensions)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_max_view TO usage_max AS
SELECT
    organization_id,
    external_subscription_id,
    code,
    hour,
    dimensions,
    toInt64(count()) AS events_count,
    max(value) AS top
FROM rollup_feed
WHERE aggregation = 'max_agg'
GROUP BY organization_id, external_subscription_id, code, hour, dimensions;

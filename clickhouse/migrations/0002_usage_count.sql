-- count_agg: the number of events of an hour.
CREATE TABLE IF NOT EXISTS usage_count
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    hour Int32,
    dimensions Map(String, String),
    events_count SimpleAggregateFunction(sum, Int64)
)
ENGINE = AggregatingMergeTree
ORDER BY (organization_id, external_subscription_id, code, hour, dimensions)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_count_view TO usage_count AS
SELECT organization_id, external_subscription_id, code, hour, dimensions, toInt64(count()) AS events_count
FROM rollup_feed
WHERE aggregation = 'count_agg'
GROUP BY organization_id, external_subscription_id, code, hour, dimensions;

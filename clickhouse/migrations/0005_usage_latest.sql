-- latest_agg: an hour's newest value. The largest (timestamp, ingested_at, transaction_id) is the newest one.
CREATE TABLE IF NOT EXISTS usage_latest
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    hour Int32,
    dimensions Map(String, String),
    events_count SimpleAggregateFunction(sum, Int64),
    newest SimpleAggregateFunction(max, Tuple(DateTime64(3, 'UTC'), DateTime64(6, 'UTC'), String, Decimal(38, 18)))
)
ENGINE = AggregatingMergeTree
ORDER BY (organization_id, external_subscription_id, code, hour, dimensions)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_latest_view TO usage_latest AS
SELECT
    organization_id,
    external_subscription_id,
    code,
    hour,
    dimensions,
    toInt64(count()) AS events_count,
    max((timestamp, ingested_at, transaction_id, value)) AS newest
FROM rollup_feed
WHERE aggregation = 'latest_agg'
GROUP BY organization_id, external_subscription_id, code, hour, dimensions;

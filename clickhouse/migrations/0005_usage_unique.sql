-- unique_count_agg: for every item of an hour its last operation. The largest (timestamp, transaction_id, operation)
-- is the last one, so a plain max keeps it.
CREATE TABLE usage_unique
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    hour Int32,
    dimensions Map(String, String),
    item String,
    events_count SimpleAggregateFunction(sum, Int64),
    last SimpleAggregateFunction(max, Tuple(DateTime64(3, 'UTC'), String, Int8))
)
ENGINE = AggregatingMergeTree
ORDER BY (organization_id, external_subscription_id, code, hour, dimensions, item)
SETTINGS index_granularity = 1024;

CREATE MATERIALIZED VIEW usage_unique_view TO usage_unique AS
SELECT
    organization_id,
    external_subscription_id,
    code,
    hour,
    dimensions,
    item,
    toInt64(count()) AS events_count,
    max((timestamp, transaction_id, toInt8(operation))) AS last
FROM rollup_feed
WHERE aggregation = 'unique_count_agg'
GROUP BY organization_id, external_subscription_id, code, hour, dimensions, item;

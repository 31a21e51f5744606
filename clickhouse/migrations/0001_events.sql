-- Every accepted event, as it was sent and as its metric reads it. `aggregation` is empty while no metric has its code.
-- `replaced` is what was sent in the fields that an expression's result was written to; NULL where nothing was.
-- `hour` counts hours since 1970-01-01 00:00 UTC: toStartOfHour would wrap outside of 1970 to 2106.
CREATE TABLE IF NOT EXISTS events
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    transaction_id String,
    timestamp DateTime64(3, 'UTC'),
    hour Int32,
    properties Map(String, String),
    precise_total_amount_cents Nullable(Decimal(50, 18)),
    aggregation LowCardinality(String),
    value Decimal(38, 18),
    item String,
    operation Enum8('add' = 0, 'remove' = 1),
    dimensions Map(String, String),
    ingested_at DateTime64(6, 'UTC'),
    replaced Map(String, Nullable(String)),
    INDEX ingested ingested_at TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(timestamp)
ORDER BY (organization_id, external_subscription_id, code, timestamp, transaction_id)
SETTINGS index_granularity = 2048;

-- What the views below read: a block that has been written to `events` is sent here once more, and nothing is kept.
-- Writing it in a second step lets a request be answered after one insert, and lets rollups be rebuilt through the
-- very views that made them.
CREATE TABLE IF NOT EXISTS rollup_feed
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    transaction_id String,
    timestamp DateTime64(3, 'UTC'),
    hour Int32,
    precise_total_amount_cents Nullable(Decimal(50, 18)),
    aggregation LowCardinality(String),
    value Decimal(38, 18),
    item String,
    operation Enum8('add' = 0, 'remove' = 1),
    dimensions Map(String, String),
    ingested_at DateTime64(6, 'UTC')
)
ENGINE = Null;

-- Where an event with a given key is, to tell a replay from a conflict and to find an event by its transaction id.
CREATE TABLE IF NOT EXISTS event_keys
(
    organization_id UUID,
    transaction_id String,
    external_subscription_id String,
    code String,
    timestamp DateTime64(3, 'UTC'),
    ingested_at DateTime64(6, 'UTC'),
    INDEX ingested ingested_at TYPE minmax GRANULARITY 16
)
ENGINE = ReplacingMergeTree
ORDER BY (organization_id, transaction_id, external_subscription_id, code, timestamp, ingested_at)
SETTINGS index_granularity = 256;

CREATE MATERIALIZED VIEW IF NOT EXISTS event_keys_view TO event_keys AS
SELECT organization_id, transaction_id, external_subscription_id, code, timestamp, ingested_at
FROM rollup_feed;

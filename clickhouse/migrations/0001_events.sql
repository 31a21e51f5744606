-- Every accepted event, as it was sent and as its metric reads it. `aggregation` is empty while no metric has its code.
-- `replaced` is what was sent in the fields that an expression's result was written to; NULL where nothing was.
-- `hour` counts hours since 1970-01-01 00:00 UTC: toStartOfHour would wrap outside of 1970 to 2106.
-- A part below 32 MiB is one file of data, not one of each column: making 80 files is much of the work of writing 50,000 events.
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
SETTINGS index_granularity = 2048, merge_selector_base = 10, min_bytes_for_wide_part = 33554432;

-- What the rollup views read, and nothing is kept of it. Writing events in a second step lets a request be answered after
-- one insert, and lets rollups be rebuilt through the very views that made them.
CREATE TABLE IF NOT EXISTS rollup_feed AS events ENGINE = Null;

-- Both at once, for a block that is durable elsewhere: its text is read a single time.
CREATE TABLE IF NOT EXISTS event_feed AS events ENGINE = Null;
CREATE MATERIALIZED VIEW IF NOT EXISTS event_feed_events TO events AS SELECT * FROM event_feed;
CREATE MATERIALIZED VIEW IF NOT EXISTS event_feed_rollups TO rollup_feed AS
SELECT * EXCEPT (properties, replaced) FROM event_feed;

-- Where an event with a given key is, to tell a replay from a conflict and to find an event by its transaction id. Sorted by
-- a hash, whatever the ids look like, whose first 24 bits are the organization's; what is compressed together is small, so
-- that one key is found without reading its neighbours. `told` is what a replay is told by, in one column, for each that is
-- read takes as long as finding the row: eight bytes of a hash of all that it must repeat but its time, then `timestamp` in
-- milliseconds and `ingested_at` in microseconds; zeros where the hash is not known, and what was sent must be looked at in
-- `events`.
CREATE TABLE IF NOT EXISTS event_keys
(
    slot UInt64 MATERIALIZED bitOr(
        bitAnd(xxh3(toString(organization_id)), 0xFFFFFF0000000000),
        bitShiftRight(xxh3(concat(toString(organization_id), transaction_id)), 24)
    ) CODEC(NONE),
    told FixedString(24) CODEC(NONE),
    timestamp DateTime64(3, 'UTC'),
    ingested_at DateTime64(6, 'UTC'),
    organization_id UUID,
    transaction_id String,
    external_subscription_id String,
    code String,
    INDEX ingested ingested_at TYPE minmax GRANULARITY 16
)
ENGINE = ReplacingMergeTree
PRIMARY KEY slot
ORDER BY (slot, organization_id, transaction_id, external_subscription_id, code, timestamp, ingested_at)
SETTINGS index_granularity = 256, min_compress_block_size = 2048;

CREATE MATERIALIZED VIEW IF NOT EXISTS event_keys_view TO event_keys AS
SELECT
    toFixedString(if(empty(replaced), concat(
        reinterpretAsFixedString(xxh3(concat(
            external_subscription_id, '\0', code, '\0', ifNull(toString(precise_total_amount_cents), ''), '\0',
            toString(length(properties)), '\0',
            arrayStringConcat(mapKeys(properties), '\0'), '\0', arrayStringConcat(mapValues(properties), '\0')
        ))),
        reinterpretAsFixedString(toUnixTimestamp64Milli(timestamp)),
        reinterpretAsFixedString(toUnixTimestamp64Micro(ingested_at))
    ), ''), 24) AS told,
    timestamp,
    ingested_at,
    organization_id,
    transaction_id,
    external_subscription_id,
    code
FROM events;

-- Events in the order they came, to list the newest of any number without sorting them all. Narrow: what leads to an
-- event in `events`, and what a list may be filtered by.
CREATE TABLE IF NOT EXISTS event_arrivals
(
    organization_id UUID,
    ingested_at DateTime64(6, 'UTC'),
    transaction_id String,
    external_subscription_id String,
    code LowCardinality(String),
    timestamp DateTime64(3, 'UTC'),
    INDEX stamped timestamp TYPE minmax GRANULARITY 4
)
ENGINE = MergeTree
ORDER BY (organization_id, ingested_at)
SETTINGS index_granularity = 2048, merge_selector_base = 10;

CREATE MATERIALIZED VIEW IF NOT EXISTS event_arrivals_view TO event_arrivals AS
SELECT organization_id, ingested_at, transaction_id, external_subscription_id, code, timestamp
FROM rollup_feed;

INSERT INTO event_arrivals
SELECT organization_id, ingested_at, transaction_id, external_subscription_id, code, timestamp
FROM events;

-- unique_count_agg: for every item of an hour its last operation. `last` is made to sort as (timestamp, transaction_id)
-- do, with the operation as its last character: the maximum of a text is far cheaper to keep than that of a tuple. In
-- the id a NUL is followed by 1, so that the two NULs after it sort before whatever a longer id goes on with.
-- Where nothing was removed, the items that are present are those there are. The projections have them by the month and by
-- the day, a set of hashes for each: a month of a busy subscription has hundreds of thousands of rows. They are as fine in
-- bytes as the table is, so that one subscription's sets are read without its neighbours'.
CREATE TABLE IF NOT EXISTS usage_unique
(
    organization_id UUID,
    external_subscription_id String,
    code String,
    hour Int32,
    dimensions Map(String, String),
    item String,
    events_count SimpleAggregateFunction(sum, Int64),
    last SimpleAggregateFunction(max, String),
    removes SimpleAggregateFunction(sum, Int64),
    PROJECTION items_by_day
    (
        SELECT
            organization_id,
            external_subscription_id,
            code,
            intDiv(hour, 24),
            uniqExactIf(item, notEmpty(item)),
            sum(removes)
        GROUP BY organization_id, external_subscription_id, code, intDiv(hour, 24)
    ),
    PROJECTION items_by_month
    (
        SELECT
            organization_id,
            external_subscription_id,
            code,
            toYYYYMM(fromUnixTimestamp64Second(toInt64(hour) * 3600, 'UTC')),
            uniqExactIf(item, notEmpty(item)),
            sum(removes)
        GROUP BY
            organization_id,
            external_subscription_id,
            code,
            toYYYYMM(fromUnixTimestamp64Second(toInt64(hour) * 3600, 'UTC'))
    )
)
ENGINE = AggregatingMergeTree
ORDER BY (organization_id, external_subscription_id, code, hour, dimensions, item)
SETTINGS
    index_granularity = 1024,
    index_granularity_bytes = 65536,
    deduplicate_merge_projection_mode = 'rebuild',
    lightweight_mutation_projection_mode = 'rebuild';

CREATE MATERIALIZED VIEW IF NOT EXISTS usage_unique_view TO usage_unique AS
SELECT
    organization_id,
    external_subscription_id,
    code,
    hour,
    dimensions,
    item,
    toInt64(count()) AS events_count,
    max(concat(
        leftPad(toString(toUnixTimestamp64Milli(timestamp)), 15, '0'),
        replaceAll(transaction_id, '\0', '\0\1'),
        '\0\0',
        toString(toInt8(operation))
    )) AS last,
    toInt64(countIf(operation = 'remove')) AS removes
FROM rollup_feed
WHERE aggregation = 'unique_count_agg'
GROUP BY organization_id, external_subscription_id, code, hour, dimensions, item;

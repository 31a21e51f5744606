-- Keys that were accepted more than once, among those ingested since an instant, with every copy but the first.
SELECT organization_id, external_subscription_id, code, timestamp, transaction_id, ingested_at
FROM
(
    SELECT
        organization_id,
        external_subscription_id,
        code,
        timestamp,
        transaction_id,
        ingested_at,
        row_number() OVER (
            PARTITION BY organization_id, external_subscription_id, transaction_id
            ORDER BY ingested_at, code, timestamp
        ) AS copy
    FROM
    (
        SELECT DISTINCT organization_id, external_subscription_id, code, timestamp, transaction_id, ingested_at
        FROM event_keys
        WHERE slot IN (SELECT slot FROM event_keys WHERE ingested_at >= {since:DateTime64(6, 'UTC')})
    )
)
WHERE copy > 1

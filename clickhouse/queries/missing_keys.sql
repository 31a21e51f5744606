-- Adds the key rows that events ingested since an instant lack.
INSERT INTO event_keys (told, timestamp, ingested_at, organization_id, transaction_id, external_subscription_id, code)
SELECT '', timestamp, ingested_at, organization_id, transaction_id, external_subscription_id, code
FROM events
WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
    AND (organization_id, transaction_id, external_subscription_id, ingested_at) NOT IN (
        SELECT organization_id, transaction_id, external_subscription_id, ingested_at
        FROM event_keys
        WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
    )

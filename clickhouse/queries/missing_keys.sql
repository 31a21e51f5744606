-- Adds the key rows that events ingested since an instant lack.
INSERT INTO event_keys
SELECT organization_id, transaction_id, external_subscription_id, code, timestamp, ingested_at
FROM events
WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
    AND (organization_id, transaction_id, external_subscription_id, ingested_at) NOT IN (
        SELECT organization_id, transaction_id, external_subscription_id, ingested_at
        FROM event_keys
        WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
    )

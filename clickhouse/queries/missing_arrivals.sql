-- Adds the arrivals that events ingested since an instant lack.
INSERT INTO event_arrivals
SELECT organization_id, ingested_at, transaction_id, external_subscription_id, code, timestamp
FROM events
WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
    AND (organization_id, ingested_at, transaction_id, external_subscription_id) NOT IN (
        SELECT organization_id, ingested_at, transaction_id, external_subscription_id
        FROM event_arrivals
        WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
    )

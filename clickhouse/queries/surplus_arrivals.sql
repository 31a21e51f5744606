-- Arrivals since an instant that no event has, or that are there more than once.
SELECT organization_id, external_subscription_id, code, timestamp, transaction_id, ingested_at
FROM event_arrivals
WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
GROUP BY organization_id, external_subscription_id, code, timestamp, transaction_id, ingested_at
HAVING count() > 1
    OR (organization_id, external_subscription_id, code, timestamp, transaction_id, ingested_at) NOT IN (
        SELECT organization_id, external_subscription_id, code, timestamp, transaction_id, ingested_at
        FROM events
        WHERE ingested_at >= {since:DateTime64(6, 'UTC')}
    )

-- The keys of all events ingested at or after an instant.
SELECT toString(organization_id), external_subscription_id, transaction_id
FROM events
WHERE ingested_at >= {since:DateTime64(6, 'UTC')}

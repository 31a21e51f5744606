-- The subscriptions of an organization that have events ingested after one instant and up to another.
SELECT DISTINCT external_subscription_id
FROM event_arrivals
WHERE organization_id = {organization_id:UUID}
    AND ingested_at > {after:DateTime64(6, 'UTC')}
    AND ingested_at <= {until:DateTime64(6, 'UTC')}

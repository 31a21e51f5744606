-- Removes these arrivals.
DELETE FROM event_arrivals
WHERE (organization_id, external_subscription_id, code, timestamp, transaction_id, ingested_at) IN (
    SELECT copy.1, copy.2, copy.3, copy.4, copy.5, copy.6
    FROM (
        SELECT arrayJoin(
            {copies:Array(Tuple(UUID, String, String, DateTime64(3, 'UTC'), String, DateTime64(6, 'UTC')))}
        ) AS copy
    )
)

-- Removes the unread copies of events that have been written again as their metric reads them.
DELETE FROM events
WHERE organization_id = {organization_id:UUID}
    AND code = {code:String}
    AND aggregation = ''
    AND (organization_id, external_subscription_id, code, timestamp, transaction_id) IN (
        SELECT organization_id, external_subscription_id, code, timestamp, transaction_id
        FROM events
        WHERE organization_id = {organization_id:UUID} AND code = {code:String} AND aggregation != ''
    )

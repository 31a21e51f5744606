-- Removes the events of a deleted metric from subscriptions that were priced by it, as far as they came before it was deleted.
DELETE FROM {{table}}
WHERE organization_id = {organization_id:UUID}
    AND code = {code:String}
    AND external_subscription_id IN {subscriptions:Array(String)}
    AND ingested_at < {before:DateTime64(6, 'UTC')}

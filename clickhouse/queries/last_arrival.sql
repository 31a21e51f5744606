-- When the last of an organization's events after an instant was ingested; no row where there is none.
SELECT max(ingested_at)
FROM event_arrivals
WHERE organization_id = {organization_id:UUID} AND ingested_at > {after:DateTime64(6, 'UTC')}
HAVING count() > 0

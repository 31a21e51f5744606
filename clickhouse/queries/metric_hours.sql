-- Between which hours the events of a metric lie.
SELECT min(hour), max(hour)
FROM events
WHERE organization_id = {organization_id:UUID} AND code = {code:String} AND aggregation != ''

-- How many of a code's events have been read by a metric, and how many have not.
SELECT countIf(aggregation != ''), countIf(aggregation = '')
FROM events
WHERE organization_id = {organization_id:UUID} AND code = {code:String}

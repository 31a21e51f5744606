-- Splits a metric's stored events by its dimension keys as they are now.
ALTER TABLE events
UPDATE dimensions = mapFromArrays(
    arrayFilter(k -> properties[k] != '', {keys:Array(String)}),
    arrayMap(k -> properties[k], arrayFilter(k -> properties[k] != '', {keys:Array(String)}))
)
WHERE organization_id = {organization_id:UUID} AND code = {code:String} AND aggregation != ''
SETTINGS mutations_sync = 2

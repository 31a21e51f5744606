-- Marks a metric's events as not read: their metric has changed or is gone.
ALTER TABLE events
UPDATE aggregation = '', value = 0, item = '', operation = 'add', dimensions = CAST(map(), 'Map(String, String)')
WHERE organization_id = {organization_id:UUID} AND code = {code:String} AND aggregation != ''
SETTINGS mutations_sync = 2

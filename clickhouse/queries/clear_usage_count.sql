-- Empties a metric's rollup before its events are read anew.
DELETE FROM usage_count
WHERE organization_id = {organization_id:UUID} AND code = {code:String}

-- Empties a metric's rollup before its events are read anew.
DELETE FROM {{table}}
WHERE organization_id = {organization_id:UUID} AND code = {code:String}

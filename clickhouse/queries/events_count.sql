-- How many events match a filter.
SELECT count()
FROM {{table}}
WHERE {{matching}}

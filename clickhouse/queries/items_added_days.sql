-- The same in whole days, counted from 1970 in UTC, from the projection by the day.
SELECT u.code AS code, uniqExactIf(u.item, notEmpty(u.item)) AS present, sum(u.removes) AS removed
FROM {{table}} AS u
WHERE u.organization_id = {organization_id:UUID}
    AND u.external_subscription_id = {external_subscription_id:String}
    AND u.code IN {codes:Array(String)}
    AND intDiv(u.hour, 24) >= {from_day:Int32}
    AND intDiv(u.hour, 24) < {end_day:Int32}
GROUP BY code
SETTINGS max_threads = 1

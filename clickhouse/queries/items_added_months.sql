-- How many items of some of a subscription's metrics there are, and how often one was removed, where nothing splits them: in
-- whole months of UTC, from the projection by the month. The month and the aggregates must be written as they are there.
SELECT u.code AS code, uniqExactIf(u.item, notEmpty(u.item)) AS present, sum(u.removes) AS removed
FROM {{table}} AS u
WHERE u.organization_id = {organization_id:UUID}
    AND u.external_subscription_id = {external_subscription_id:String}
    AND u.code IN {codes:Array(String)}
    AND toYYYYMM(fromUnixTimestamp64Second(toInt64(u.hour) * 3600, 'UTC')) >= {from_month:Int32}
    AND toYYYYMM(fromUnixTimestamp64Second(toInt64(u.hour) * 3600, 'UTC')) < {end_month:Int32}
GROUP BY code
SETTINGS max_threads = 1

-- How many items of some of a subscription's metrics there are, and how often one was removed, where nothing splits them: in
-- whole spans of which the rollup or one of its projections has a row each. A projection is read only where the span and the
-- aggregates are written as they are there.
SELECT u.code AS code, uniqExactIf(u.item, notEmpty(u.item)) AS present, sum(u.removes) AS removed
FROM {{table}} AS u
WHERE u.organization_id = {organization_id:UUID}
    AND u.external_subscription_id = {external_subscription_id:String}
    AND u.code IN {codes:Array(String)}
    AND {{span}} >= {from_span:Int32}
    AND {{span}} < {end_span:Int32}
GROUP BY code
SETTINGS max_threads = 1

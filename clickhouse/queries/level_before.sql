-- The level of weighted sums at an instant: whole hours from the rollup, what follows them from the raw table.
SELECT part.code AS code, part.owner AS owner, part.split AS split, {{folded}}
FROM
(
    SELECT u.code AS code, {{kept_owner}} AS owner, {{kept_split}} AS split, {{kept}}
    FROM {{table}} AS u
    PREWHERE u.organization_id = {organization_id:UUID}
        AND u.code IN {codes:Array(String)}
        AND ({any_subscription:Bool} OR u.external_subscription_id IN {subscriptions:Array(String)})
        AND u.hour < {end_hour:Int32}
    GROUP BY code, owner, split
    UNION ALL
    SELECT v.code AS code, {{raw_owner}} AS owner, {{raw_split}} AS split, {{raw}}
    FROM events AS v
    PREWHERE v.organization_id = {organization_id:UUID}
        AND v.code IN {codes:Array(String)}
        AND ({any_subscription:Bool} OR v.external_subscription_id IN {subscriptions:Array(String)})
        AND v.timestamp >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
        AND v.timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    WHERE v.aggregation = {{aggregation}}
    GROUP BY code, owner, split
) AS part
GROUP BY code, owner, split
HAVING total != 0
LIMIT {limit:UInt64}

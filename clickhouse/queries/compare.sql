SELECT aggregation, organization_id, external_subscription_id, code, hour, min(missing) AS least, max(missing) AS most
FROM
(
    SELECT aggregation, organization_id, external_subscription_id, code, hour, dimensions, sum(n) AS missing
    FROM
    (
        SELECT aggregation, organization_id, external_subscription_id, code, hour, dimensions, toInt64(count()) AS n
        FROM events
        WHERE aggregation != '' AND (organization_id, external_subscription_id, code, hour) IN (SELECT * FROM touched)
        GROUP BY aggregation, organization_id, external_subscription_id, code, hour, dimensions
{{each_rollup}}
    )
    GROUP BY aggregation, organization_id, external_subscription_id, code, hour, dimensions
    HAVING missing != 0
)
GROUP BY aggregation, organization_id, external_subscription_id, code, hour

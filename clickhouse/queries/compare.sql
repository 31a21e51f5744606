SELECT aggregation, organization_id, external_subscription_id, code, hour, sum(missing) AS missing
FROM
(
    SELECT aggregation, organization_id, external_subscription_id, code, hour, toInt64(count()) AS missing
    FROM events
    WHERE aggregation != '' AND (organization_id, external_subscription_id, code, hour) IN (SELECT * FROM touched)
    GROUP BY aggregation, organization_id, external_subscription_id, code, hour
    UNION ALL
    SELECT 'count_agg', organization_id, external_subscription_id, code, hour, -sum(events_count)
    FROM usage_count
    WHERE (organization_id, external_subscription_id, code, hour) IN (SELECT * FROM touched)
    GROUP BY organization_id, external_subscription_id, code, hour
    UNION ALL
    SELECT 'sum_agg', organization_id, external_subscription_id, code, hour, -sum(events_count)
    FROM usage_sum
    WHERE (organization_id, external_subscription_id, code, hour) IN (SELECT * FROM touched)
    GROUP BY organization_id, external_subscription_id, code, hour
    UNION ALL
    SELECT 'max_agg', organization_id, external_subscription_id, code, hour, -sum(events_count)
    FROM usage_max
    WHERE (organization_id, external_subscription_id, code, hour) IN (SELECT * FROM touched)
    GROUP BY organization_id, external_subscription_id, code, hour
    UNION ALL
    SELECT 'unique_count_agg', organization_id, external_subscription_id, code, hour, -sum(events_count)
    FROM usage_unique
    WHERE (organization_id, external_subscription_id, code, hour) IN (SELECT * FROM touched)
    GROUP BY organization_id, external_subscription_id, code, hour
)
GROUP BY aggregation, organization_id, external_subscription_id, code, hour
HAVING missing != 0

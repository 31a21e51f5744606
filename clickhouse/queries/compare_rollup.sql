        UNION ALL
        SELECT {{aggregation}}, organization_id, external_subscription_id, code, hour, dimensions, -sum(events_count)
        FROM {{table}}
        WHERE (organization_id, external_subscription_id, code, hour) IN (SELECT * FROM touched)
        GROUP BY organization_id, external_subscription_id, code, hour, dimensions

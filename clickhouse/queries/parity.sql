-- How many cells (hours of a subscription and metric) have another number of events in their rollup than among the
-- events themselves, by aggregation. Cells with an event ingested at or after `settled_before_us` are left out.
SELECT aggregation, count() AS cells
FROM
(
    SELECT aggregation
    FROM
    (
        SELECT
            aggregation,
            sipHash128(organization_id, external_subscription_id, code, hour) AS cell,
            toInt64(1) AS missing,
            toUnixTimestamp64Micro(ingested_at) AS ingested_us
        FROM events
        WHERE aggregation != '' AND hour >= {from_hour:Int32} AND hour < {end_hour:Int32}
        UNION ALL
        SELECT 'count_agg', sipHash128(organization_id, external_subscription_id, code, hour), -events_count, 0
        FROM usage_count
        WHERE hour >= {from_hour:Int32} AND hour < {end_hour:Int32}
        UNION ALL
        SELECT 'sum_agg', sipHash128(organization_id, external_subscription_id, code, hour), -events_count, 0
        FROM usage_sum
        WHERE hour >= {from_hour:Int32} AND hour < {end_hour:Int32}
        UNION ALL
        SELECT 'max_agg', sipHash128(organization_id, external_subscription_id, code, hour), -events_count, 0
        FROM usage_max
        WHERE hour >= {from_hour:Int32} AND hour < {end_hour:Int32}
        UNION ALL
        SELECT 'latest_agg', sipHash128(organization_id, external_subscription_id, code, hour), -events_count, 0
        FROM usage_latest
        WHERE hour >= {from_hour:Int32} AND hour < {end_hour:Int32}
        UNION ALL
        SELECT 'unique_count_agg', sipHash128(organization_id, external_subscription_id, code, hour), -events_count, 0
        FROM usage_unique
        WHERE hour >= {from_hour:Int32} AND hour < {end_hour:Int32}
        UNION ALL
        SELECT 'weighted_sum_agg', sipHash128(organization_id, external_subscription_id, code, hour), -events_count, 0
        FROM usage_weighted
        WHERE hour >= {from_hour:Int32} AND hour < {end_hour:Int32}
    )
    GROUP BY aggregation, cell
    HAVING sum(missing) != 0 AND max(ingested_us) < {settled_before_us:Int64}
)
GROUP BY aggregation

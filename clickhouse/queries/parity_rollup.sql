            UNION ALL
            SELECT
                {{aggregation}},
                organization_id,
                external_subscription_id,
                code,
                hour,
                sipHash128(organization_id, external_subscription_id, code, hour),
                sipHash64(dimensions),
                -events_count,
                0
            FROM {{table}}
            WHERE hour >= {from_hour:Int32} AND hour < {end_hour:Int32}

            SELECT
                aggregation,
                organization_id,
                external_subscription_id,
                code,
                hour,
                sipHash128(organization_id, external_subscription_id, code, hour) AS cell,
                sipHash64(dimensions) AS bucket,
                toInt64(1) AS n,
                toUnixTimestamp64Micro(ingested_at) AS ingested_us
            FROM events
            WHERE aggregation != '' AND hour >= {from_hour:Int32} AND hour < {end_hour:Int32}
{{each_rollup}}

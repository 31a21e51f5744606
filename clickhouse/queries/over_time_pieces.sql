    SELECT
        p.bucket AS bucket,
        v.code AS code,
        {{raw_owner}} AS owner,
        {{raw_split}} AS split{{raw_item}},
        {{raw}}
    FROM events AS v
    INNER JOIN
    (
        SELECT piece.1 AS hour, piece.2 AS from_ms, piece.3 AS end_ms, piece.4 AS bucket
        FROM (SELECT arrayJoin({pieces:Array(Tuple(Int32, Int64, Int64, UInt32))}) AS piece)
    ) AS p ON p.hour = v.hour
    PREWHERE v.organization_id = {organization_id:UUID}
        AND v.code IN {codes:Array(String)}
        AND ({any_subscription:Bool} OR v.external_subscription_id IN {subscriptions:Array(String)})
        AND v.timestamp >= fromUnixTimestamp64Milli({first_ms:Int64}, 'UTC')
        AND v.timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
        AND v.hour IN {piece_hours:Array(Int32)}
    WHERE v.aggregation = {{aggregation}}
        AND toUnixTimestamp64Milli(v.timestamp) >= p.from_ms
        AND toUnixTimestamp64Milli(v.timestamp) < p.end_ms{{raw_has_item}}
    GROUP BY bucket, code, owner, split{{item_key}}

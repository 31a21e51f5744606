    SELECT
        {buckets:Array(UInt32)}[u.hour - {first_hour:Int32} + 1] AS bucket,
        u.code AS code,
        {{kept_owner}} AS owner,
        {{kept_split}} AS split{{kept_item}},
        {{kept}}
    FROM {{table}} AS u
    PREWHERE u.organization_id = {organization_id:UUID}
        AND u.code IN {codes:Array(String)}
        AND ({any_subscription:Bool} OR u.external_subscription_id IN {subscriptions:Array(String)})
        AND u.hour >= {first_hour:Int32}
        AND u.hour < {end_hour:Int32}
    WHERE bucket != 0{{kept_has_item}}
    GROUP BY bucket, code, owner, split{{item_key}}

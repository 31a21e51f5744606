    WHERE u.organization_id = {organization_id:UUID}
        AND u.code IN {codes:Array(String)}
        AND ({any_subscription:Bool} OR u.external_subscription_id IN {subscriptions:Array(String)})
        AND u.hour >= {first_hour:Int32}
        AND u.hour < {end_hour:Int32}
        AND bucket != 0

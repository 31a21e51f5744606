    WHERE u.organization_id = {organization_id:UUID}
        AND u.external_subscription_id = {external_subscription_id:String}
        AND u.code IN {codes:Array(String)}
        AND u.hour >= {from_hour:Int32}
        AND u.hour < {end_hour:Int32}

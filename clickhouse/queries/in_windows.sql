    INNER JOIN windows AS w USING (organization_id, external_subscription_id, code)
    WHERE (u.organization_id, u.external_subscription_id, u.code) IN (
        SELECT organization_id, external_subscription_id, code FROM windows
    )
        AND u.hour >= {first_hour:Int32}
        AND u.hour < {end_hour:Int32}
        AND u.hour >= w.from_hour
        AND u.hour < w.end_hour

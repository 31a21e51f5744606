    organization_id = {organization_id:UUID}
    AND ({any_subscription:Bool} OR external_subscription_id = {external_subscription_id:String})
    AND ({any_code:Bool} OR code = {code:String})
    AND timestamp >= {from:DateTime64(3, 'UTC')}
    AND timestamp <= {to:DateTime64(3, 'UTC')}

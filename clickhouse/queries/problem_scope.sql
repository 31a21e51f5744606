AND organization_id = {organization_id:UUID}
AND ({any_subscription:Bool} OR external_subscription_id = {external_subscription_id:String})
AND ({from_first:Bool} OR external_subscription_id > {after_subscription:String})
AND ({to_last:Bool} OR external_subscription_id <= {last_subscription:String})
AND ({any_code:Bool} OR code = {code:String})
AND timestamp >= {from:DateTime64(3, 'UTC')}
AND timestamp <= {to:DateTime64(3, 'UTC')}

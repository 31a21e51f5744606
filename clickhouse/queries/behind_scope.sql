FROM events AS v
WHERE v.organization_id = {organization_id:UUID}
    AND v.external_subscription_id = {external_subscription_id:String}
    AND v.code = {code:String}
    AND v.timestamp >= fromUnixTimestamp64Milli({from_ms:Int64}, 'UTC')
    AND v.timestamp < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')
    AND if({aggregation:String} = '', v.aggregation != '', v.aggregation = {aggregation:String})
    AND (v.item != '' OR v.aggregation != 'unique_count_agg')
    AND ({transaction_id:String} = '' OR v.transaction_id = {transaction_id:String})
    AND arrayAll((key, wanted) -> has(wanted, v.properties[key]), {group_keys:Array(String)}, {group_values:Array(Array(String))})

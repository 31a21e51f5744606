WITH windows AS
(
    SELECT alike.1 AS organization_id, alike.2 AS code, alike.3 AS keys, alike.4 AS from_hour, alike.5 AS end_hour, id, external_subscription_id
    FROM (SELECT arrayJoin(JSONExtract({windows:String}, 'Array(Tuple(UUID, String, Array(String), Int32, Int32, Array(UInt32), Array(String)))')) AS alike)
    ARRAY JOIN alike.6 AS id, alike.7 AS external_subscription_id
)

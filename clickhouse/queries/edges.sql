-- What windows have outside of whole hours, those alike together: a list in JSON, for a list of many parameters is slow to bind.
edges AS
(
    SELECT alike.1 AS organization_id, alike.2 AS code, alike.3 AS keys, alike.4 AS from_ms, alike.5 AS end_ms, id, external_subscription_id
    FROM (SELECT arrayJoin(JSONExtract({edges:String}, 'Array(Tuple(UUID, String, Array(String), Int64, Int64, Array(UInt32), Array(String)))')) AS alike)
    ARRAY JOIN alike.6 AS id, alike.7 AS external_subscription_id
)

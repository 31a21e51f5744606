WITH windows AS
(
    SELECT w.1 AS id, w.2 AS organization_id, w.3 AS external_subscription_id, w.4 AS code, w.5 AS keys, w.6 AS from_hour, w.7 AS end_hour
    FROM (SELECT arrayJoin({windows:Array(Tuple(UInt32, UUID, String, String, Array(String), Int32, Int32))}) AS w)
),
edges AS
(
    SELECT e.1 AS id, e.2 AS organization_id, e.3 AS external_subscription_id, e.4 AS code, e.5 AS keys, e.6 AS from_ms, e.7 AS end_ms
    FROM (SELECT arrayJoin({edges:Array(Tuple(UInt32, UUID, String, String, Array(String), Int64, Int64))}) AS e)
)

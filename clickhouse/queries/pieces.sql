WITH pieces AS
(
    SELECT p.1 AS hour, p.2 AS from_ms, p.3 AS end_ms, p.4 AS bucket
    FROM (SELECT arrayJoin({pieces:Array(Tuple(Int32, Int64, Int64, UInt32))}) AS p)
)

-- The windows that events have come for after they were measured, among those ingested after one instant and up to another.
SELECT DISTINCT w.id
FROM event_arrivals AS a
INNER JOIN
(
    SELECT w.1 AS id, w.2 AS external_subscription_id, w.3 AS code, w.4 AS from_ms, w.5 AS end_ms, w.6 AS measured_at
    FROM
    (
        SELECT arrayJoin({windows:Array(Tuple(UInt32, String, String, Int64, Int64, DateTime64(6, 'UTC')))}) AS w
    )
) AS w USING (external_subscription_id, code)
WHERE a.organization_id = {organization_id:UUID}
    AND a.ingested_at > {after:DateTime64(6, 'UTC')}
    AND a.ingested_at <= {until:DateTime64(6, 'UTC')}
    AND a.ingested_at > w.measured_at
    AND toUnixTimestamp64Milli(a.timestamp) >= w.from_ms
    AND toUnixTimestamp64Milli(a.timestamp) < w.end_ms

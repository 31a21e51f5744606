-- Those of some organizations that have events ingested after an instant of each.
SELECT DISTINCT organization_id
FROM event_arrivals
INNER JOIN
(
    SELECT m.1 AS organization_id, m.2 AS after
    FROM (SELECT arrayJoin({marks:Array(Tuple(UUID, DateTime64(6, 'UTC')))}) AS m)
) AS marks USING (organization_id)
WHERE organization_id IN (SELECT m.1 FROM (SELECT arrayJoin({marks:Array(Tuple(UUID, DateTime64(6, 'UTC')))}) AS m))
    AND ingested_at > after

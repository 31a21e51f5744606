-- The number of items present in each bucket of any number of windows. `buckets` says which bucket a split belongs to:
-- an item that comes with several splits of one bucket counts once there, by the last of all its operations.
-- include: windows
,
buckets AS
(
    SELECT b.1 AS id, b.2 AS split, b.3 AS bucket
    FROM (SELECT arrayJoin({buckets:Array(Tuple(UInt32, Array(String), UInt32))}) AS b)
)
SELECT whole.id AS id, whole.bucket AS bucket, count()
FROM
(
    SELECT part.id AS id, b.bucket AS bucket, part.item AS item, {{folded}}
    FROM
    (
        SELECT w.id AS id, arrayMap(k -> u.dimensions[k], w.keys) AS split, u.item AS item, {{kept}}
        FROM {{table}} AS u
-- include: in_windows
            AND u.item != ''
        GROUP BY id, split, item
        UNION ALL
        SELECT e.id AS id, arrayMap(k -> v.properties[k], e.keys) AS split, v.item AS item, {{raw}}
        FROM events AS v
-- include: in_edges
            AND v.item != ''
        GROUP BY id, split, item
    ) AS part
    INNER JOIN buckets AS b ON b.id = part.id AND b.split = part.split
    GROUP BY id, bucket, item
) AS whole
WHERE endsWith(whole.last, '0')
GROUP BY id, bucket

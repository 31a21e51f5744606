-- Usage in buckets of time: whole hours from the rollup, the hours that lie in several buckets from the raw table.
-- Each bucket is split by metric, by owner (nobody, subscription or customer) and by the values of dimension keys.
-- include: pieces
SELECT part.bucket AS bucket, part.code AS code, part.owner AS owner, part.split AS split, {{folded}}
FROM
(
    SELECT
        {buckets:Array(UInt32)}[u.hour - {first_hour:Int32} + 1] AS bucket,
        u.code AS code,
        {{kept_owner}} AS owner,
        arrayMap(k -> u.dimensions[k], {keys:Array(String)}) AS split,
        {{kept}}
    FROM {{table}} AS u
-- include: in_hours
    GROUP BY bucket, code, owner, split
    UNION ALL
    SELECT
        p.bucket AS bucket,
        v.code AS code,
        {{raw_owner}} AS owner,
        arrayMap(k -> v.properties[k], {keys:Array(String)}) AS split,
        {{raw}}
    FROM events AS v
-- include: in_pieces
    GROUP BY bucket, code, owner, split
) AS part
GROUP BY bucket, code, owner, split
LIMIT {limit:UInt64}

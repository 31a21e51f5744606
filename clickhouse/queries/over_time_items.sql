-- The same for items: how many are present by the last operation on each in the bucket. An item is a subscription's own.
-- include: pieces
SELECT whole.bucket AS bucket, whole.code AS code, whole.owner AS owner, whole.split AS split,
    sum(whole.events_count), countIf(endsWith(whole.last, '0'))
FROM
(
    SELECT part.bucket AS bucket, part.code AS code, part.owner AS owner, part.split AS split, {{folded}}
    FROM
    (
        SELECT
            {buckets:Array(UInt32)}[u.hour - {first_hour:Int32} + 1] AS bucket,
            u.code AS code,
            {{kept_owner}} AS owner,
            arrayMap(k -> u.dimensions[k], {keys:Array(String)}) AS split,
            u.external_subscription_id AS subscription,
            u.item AS item,
            {{kept}}
        FROM {{table}} AS u
-- include: in_hours
            AND u.item != ''
        GROUP BY bucket, code, owner, split, subscription, item
        UNION ALL
        SELECT
            p.bucket AS bucket,
            v.code AS code,
            {{raw_owner}} AS owner,
            arrayMap(k -> v.properties[k], {keys:Array(String)}) AS split,
            v.external_subscription_id AS subscription,
            v.item AS item,
            {{raw}}
        FROM events AS v
-- include: in_pieces
            AND v.item != ''
        GROUP BY bucket, code, owner, split, subscription, item
    ) AS part
    GROUP BY bucket, code, owner, split, part.subscription, part.item
) AS whole
GROUP BY bucket, code, owner, split
LIMIT {limit:UInt64}

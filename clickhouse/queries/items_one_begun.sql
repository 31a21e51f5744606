-- How both queries of one subscription's items begin: with those of whole hours, from the rollup.
SELECT item.code AS code, item.seen AS seen, count()
FROM
(
    SELECT
        part.code AS code,
        part.item AS item,
-- include: items_seen
    FROM
    (
        SELECT u.code AS code, {{kept_split}} u.item AS item, {{kept}}
        FROM {{table}} AS u
        WHERE u.organization_id = {organization_id:UUID}
            AND u.external_subscription_id = {external_subscription_id:String}
            AND u.code IN {codes:Array(String)}
            AND u.hour >= {from_hour:Int32}
            AND u.hour < {end_hour:Int32}
            AND u.item != ''
        GROUP BY code, split, item

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
-- include: hours_of_one
            AND u.item != ''
        GROUP BY code, split, item

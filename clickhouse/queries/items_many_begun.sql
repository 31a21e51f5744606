-- How both queries of the items of many windows begin: with those of whole hours, from the rollup.
SELECT item.id AS id, item.seen AS seen, count()
FROM
(
    SELECT
        part.id AS id,
        part.item AS item,
-- include: items_seen
    FROM
    (
        SELECT w.id AS id, arrayMap(k -> u.dimensions[k], w.keys) AS split, u.item AS item, {{kept}}
        FROM {{table}} AS u
-- include: in_windows
            AND u.item != ''
        GROUP BY id, split, item

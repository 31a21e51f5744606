-- What is wrong with the events that organizations sent in a span of time: how many events each error has, and some of
-- their transaction ids. `kind` is what a metric reads: nothing, a number, or an item.
WITH metrics AS
(
    SELECT m.1 AS organization_id, m.2 AS code, m.3 AS kind, m.4 AS field, m.5 AS by_expression, m.6 AS filter_keys
    FROM (SELECT arrayJoin({metrics:Array(Tuple(UUID, String, String, String, Bool, Array(String)))}) AS m)
)
SELECT
    organization_id,
    error,
    count() AS events_count,
    groupArraySorted({most_ids:UInt32})(transaction_id) AS transaction_ids
FROM
(
    SELECT
        organization_id,
        transaction_id,
        arrayJoin(arrayFilter(one -> one != '', [
            if(m.kind = '', 'invalid_code', ''),
            if(
                m.kind IN ('number', 'item') AND (properties[m.field] = '' OR m.by_expression AND NOT mapContains(replaced, m.field))
                OR m.kind = 'number' AND NOT (match(properties[m.field], '^-?[0-9]+(\\.[0-9]+)?$') AND (
                    aggregation = '' OR value != 0 OR abs(toFloat64OrZero(properties[m.field])) < 1
                )),
                'missing_aggregation_property',
                ''
            ),
            if(
                arrayExists(
                    key -> mapContains(properties, key) AND (organization_id, code, key, properties[key]) NOT IN (
                        SELECT a.1, a.2, a.3, a.4
                        FROM (SELECT arrayJoin({allowed:Array(Tuple(UUID, String, String, String))}) AS a)
                    ),
                    m.filter_keys
                ),
                'invalid_filter_values',
                ''
            )
        ])) AS error
    FROM events
    LEFT JOIN metrics AS m USING (organization_id, code)
    WHERE organization_id IN {organizations:Array(UUID)}
        AND ingested_at >= {from:DateTime64(6, 'UTC')}
        AND ingested_at < {end:DateTime64(6, 'UTC')}
)
GROUP BY organization_id, error

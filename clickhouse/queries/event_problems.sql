-- Events that are kept and not billed as they were meant, each with a reason; an event with two reasons comes twice.
-- Each part reads the columns that it needs and nothing where another reason is wanted.
SELECT
    -- include: problem_event
    'unknown_code' AS reason
FROM events
WHERE {reason:String} IN ('', 'unknown_code')
    -- include: problem_scope
    AND code NOT IN {codes:Array(String)}

UNION ALL
-- Spans are closed; events of recurring metrics count from the first later computation on, until the last one is made.
SELECT
    -- include: problem_event
    multiIf(
        empty(s.spans), 'unknown_subscription',
        code IN {recurring:Array(String)}, multiIf(
            timestamp_ms > arrayMax(span -> span.2, s.spans), 'after_termination',
            toUnixTimestamp64Micro(ingested_at) > s.last_measured_us, 'period_finalized',
            ''
        ),
        arrayExists(span -> timestamp_ms BETWEEN span.1 AND span.2, s.spans), if(
            arrayExists(
                period -> timestamp_ms BETWEEN period.1 AND period.2
                    AND toUnixTimestamp64Micro(ingested_at) > period.3,
                s.periods
            ),
            'period_finalized',
            ''
        ),
        timestamp_ms < arrayMin(span -> span.1, s.spans), 'before_start',
        'after_termination'
    ) AS reason
FROM events
ANY LEFT JOIN
(
    SELECT s.1 AS external_subscription_id, s.2 AS spans, s.3 AS periods, s.4 AS last_measured_us
    FROM
    (
        SELECT arrayJoin({subscriptions:Array(Tuple(
            String, Array(Tuple(Int64, Int64)), Array(Tuple(Int64, Int64, Int64)), Int64
        ))}) AS s
    )
) AS s USING (external_subscription_id)
WHERE {reason:String} IN ('', 'unknown_subscription', 'before_start', 'after_termination', 'period_finalized')
    -- include: problem_scope
    AND reason != ''
    AND {reason:String} IN ('', reason)

UNION ALL
-- A value that could not be read counts as 0. Zeros, and numbers too small to be told from it, have been read. A field
-- that an expression fills is there once it was filled.
SELECT
    -- include: problem_event
    if(has_field, 'non_numeric_value', 'missing_property') AS reason
FROM events
INNER JOIN
(
    SELECT m.1 AS code, m.2 AS field, m.3 AS by_expression
    FROM (SELECT arrayJoin({numeric:Array(Tuple(String, String, Bool))}) AS m)
) AS m USING (code)
WHERE {reason:String} IN ('', 'missing_property', 'non_numeric_value')
    -- include: problem_scope
    AND code IN (SELECT m.1 FROM (SELECT arrayJoin({numeric:Array(Tuple(String, String, Bool))}) AS m))
    AND aggregation != ''
    AND value = 0
    AND NOT (
        (has(if(m.by_expression, mapKeys(replaced), mapKeys(properties)), m.field) AS has_field)
        AND length(properties[m.field]) <= {longest_number:UInt32}
        AND match(properties[m.field], {number:String})
        AND abs(toFloat64OrZero(properties[m.field])) < 1
    )
    AND {reason:String} IN ('', reason)

UNION ALL
SELECT
    -- include: problem_event
    'missing_property' AS reason
FROM events
WHERE {reason:String} IN ('', 'missing_property')
    -- include: problem_scope
    AND code IN {unique:Array(String)}
    AND aggregation != ''
    AND item = ''

UNION ALL
SELECT
    -- include: problem_event
    'invalid_operation_type' AS reason
FROM events
WHERE {reason:String} IN ('', 'invalid_operation_type')
    -- include: problem_scope
    AND code IN {unique:Array(String)}
    AND operation = 'add'
    AND properties['operation_type'] NOT IN ('', 'add', 'remove')

UNION ALL
SELECT
    -- include: problem_event
    'invalid_filter_value' AS reason
FROM events
INNER JOIN
(
    SELECT f.1 AS code, f.2 AS keys
    FROM (SELECT arrayJoin({filters:Array(Tuple(String, Array(String)))}) AS f)
) AS f USING (code)
WHERE {reason:String} IN ('', 'invalid_filter_value')
    -- include: problem_scope
    AND code IN (SELECT f.1 FROM (SELECT arrayJoin({filters:Array(Tuple(String, Array(String)))}) AS f))
    AND arrayExists(
        key -> mapContains(properties, key) AND (code, key, properties[key]) NOT IN (
            SELECT a.1, a.2, a.3
            FROM (SELECT arrayJoin({allowed:Array(Tuple(String, String, String))}) AS a)
        ),
        f.keys
    )

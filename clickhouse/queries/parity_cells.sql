-- Which cells these are.
SELECT any(organization_id), any(external_subscription_id), any(code), any(hour)
FROM
(
    SELECT
        aggregation,
        cell,
        bucket,
        any(organization_id) AS organization_id,
        any(external_subscription_id) AS external_subscription_id,
        any(code) AS code,
        any(hour) AS hour,
        sum(n) AS missing,
        max(ingested_us) AS newest_us
    FROM
    (
        -- include: parity_both
    )
    GROUP BY aggregation, cell, bucket
)
GROUP BY aggregation, cell
HAVING countIf(missing != 0) > 0 AND max(newest_us) < {settled_before_us:Int64}
LIMIT {limit:UInt32}

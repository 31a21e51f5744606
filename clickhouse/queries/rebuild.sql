-- Puts cells of a rollup right: adds what the raw table has and the rollup lacks, or takes away what it has too much of.
-- One insert, so a reader sees the cell before or after, never in between.
INSERT INTO {{table}} ({{key}}, {{names}})
SELECT {{key}}, {{folded}}
FROM
(
    SELECT {{key}}, {{raw}}
    FROM events AS v
    WHERE v.aggregation = {{aggregation}} AND (organization_id, external_subscription_id, code, hour) IN (
-- include: cells
    )
    GROUP BY {{key}}
    UNION ALL
    SELECT {{key}}, {{taken_away}}
    FROM {{table}} AS u
    WHERE (organization_id, external_subscription_id, code, hour) IN (
-- include: cells
    )
    GROUP BY {{key}}
) AS part
GROUP BY {{key}}
HAVING {{differs}}

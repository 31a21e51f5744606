-- Empties cells of a rollup that hold an event too many: a maximum cannot be lowered by adding to it.
DELETE FROM {{table}}
WHERE (organization_id, external_subscription_id, code, hour) IN (
-- include: cells
    )

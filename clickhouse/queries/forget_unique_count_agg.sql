-- Empties cells of usage_unique that hold an event too many: a maximum cannot be lowered by adding to it.
DELETE FROM usage_unique
WHERE (organization_id, external_subscription_id, code, hour) IN (
        SELECT cell.1, cell.2, cell.3, cell.4
        FROM (SELECT arrayJoin({cells:Array(Tuple(UUID, String, String, Int32))}) AS cell)
    )

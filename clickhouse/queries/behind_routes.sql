-- The combinations of values that events of a window have, as far as they decide on a filter.
SELECT DISTINCT
    -- include: behind_route
    AS route
-- include: behind_scope

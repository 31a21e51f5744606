-- include: behind_scope
    AND (NOT {routed:Bool} OR has({routes:Array(Array(String))},
        -- include: behind_route
    ))

    UNION ALL
    SELECT DISTINCT hour FROM {{table}}

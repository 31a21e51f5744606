-- The migrations that have been applied, and what tells their statements from others; tables made before that was kept
-- have none.
SELECT COLUMNS('^(name|statements_hash)$') FROM migrations

-- The migrations that have been applied, and what tells their statements from others.
SELECT name, statements_hash FROM migrations

-- The blocks of journal_0, in the order they were written.
SELECT lines
FROM journal_0
ORDER BY number

-- The blocks of journal_1, in the order they were written.
SELECT lines
FROM journal_1
ORDER BY number

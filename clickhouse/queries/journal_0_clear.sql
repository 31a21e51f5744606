-- Empties journal_0: its blocks are in the events table.
TRUNCATE TABLE journal_0

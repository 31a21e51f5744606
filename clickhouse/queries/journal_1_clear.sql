-- Empties journal_1: its blocks are in the events table.
TRUNCATE TABLE journal_1

-- Small blocks are made durable here, one row a block, at a fraction of what their own rows cost to write; they follow
-- into `events` together, a moment later. The engine appends to files that are there, where a MergeTree makes a dozen new
-- ones for every part. Two tables take turns, so that one can be emptied while the other is written.
CREATE TABLE journal_0 (number UInt64, lines String) ENGINE = StripeLog;
CREATE TABLE journal_1 (number UInt64, lines String) ENGINE = StripeLog;

-- Appends a block to journal_0.
INSERT INTO journal_0 SELECT {number:UInt64}, {lines:String}

-- Appends a block to journal_1.
INSERT INTO journal_1 SELECT {number:UInt64}, {lines:String}

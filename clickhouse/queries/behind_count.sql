-- How many events are behind an amount: before its window, within it, and in both but ingested too late for it.
SELECT
    countIf(v.ingested_at <= {until:DateTime64(6, 'UTC')} AND v.timestamp < fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC')),
    countIf(v.ingested_at <= {until:DateTime64(6, 'UTC')} AND v.timestamp >= fromUnixTimestamp64Milli({window_ms:Int64}, 'UTC')),
    countIf(v.ingested_at > {until:DateTime64(6, 'UTC')})
-- include: behind_bucket

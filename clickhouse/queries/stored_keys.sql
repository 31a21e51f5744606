-- What is known of events that have one of these slots. A slot is mostly that of one event.
SELECT slot, content, toUnixTimestamp64Milli(timestamp) AS timestamp_ms, toUnixTimestamp64Micro(ingested_at) AS ingested_us
FROM event_keys
PREWHERE slot IN {slots:Array(UInt64)}
ORDER BY ingested_us
SETTINGS max_threads = 1

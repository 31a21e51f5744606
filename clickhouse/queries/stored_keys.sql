-- What replays of events that have one of these slots and contents are told by; where a content is not known, that; and of
-- all other rows in a slot one, for all events with one transaction id may be in it. The keys that are sought are anywhere
-- and never the same: files are mapped, for reading each of so many small pieces would take longer, and what a condition
-- found is not kept.
SELECT slot, told
FROM event_keys
PREWHERE slot IN {slots:Array(UInt64)}
LIMIT 1 BY slot, if(reinterpretAsUInt64(told) IN {contents:Array(UInt64)}, told, NULL)
SETTINGS
    max_threads = 1,
    local_filesystem_read_method = 'mmap',
    min_bytes_to_use_mmap_io = 1,
    use_query_condition_cache = 0

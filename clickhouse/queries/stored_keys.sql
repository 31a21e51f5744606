-- What replays of events that have one of these slots are told by. A slot is mostly that of one event. The keys that are
-- sought are anywhere and never the same: files are mapped, for reading each of so many small pieces would take longer,
-- and what a condition found is not kept.
SELECT slot, told
FROM event_keys
PREWHERE slot IN {slots:Array(UInt64)}
SETTINGS
    max_threads = 1,
    local_filesystem_read_method = 'mmap',
    min_bytes_to_use_mmap_io = 1,
    use_query_condition_cache = 0

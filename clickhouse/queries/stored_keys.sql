-- What replays of events that have one of these slots are told by. A slot is mostly that of one event.
SELECT slot, told
FROM event_keys
PREWHERE slot IN {slots:Array(UInt64)}
SETTINGS max_threads = 1

-- What replays of the events ingested after one instant and until another are told by.
SELECT slot, told
FROM event_keys
WHERE ingested_at > {after:DateTime64(6, 'UTC')} AND ingested_at <= {until:DateTime64(6, 'UTC')}

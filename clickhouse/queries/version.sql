-- Which ClickHouse this is, and what time it is there.
SELECT version(), now64(6, 'UTC')

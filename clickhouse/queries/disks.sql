-- The local disks ClickHouse keeps its data on.
SELECT name, free_space, total_space
FROM system.disks
WHERE type = 'Local' OR type = 'local'
ORDER BY name

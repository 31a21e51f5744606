"""`meterhouse import`: history in files, sent as events over HTTP, safe to interrupt and to repeat."""

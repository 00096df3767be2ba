"""The build service: queue, worker processes, records, logs."""

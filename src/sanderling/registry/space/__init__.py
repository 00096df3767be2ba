"""Space: garbage collection beside pushes and pulls, retention rules, quotas."""

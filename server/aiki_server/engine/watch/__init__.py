"""Who waits for what becomes of runs: results for callers, counts for Prometheus."""

"""What a worker counts for Prometheus, where it happens, and the text format in which its health port tells it."""

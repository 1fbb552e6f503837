"""Whether the server lives and works, and its figures for Prometheus."""

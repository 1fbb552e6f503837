"""What a worker tells of itself to Prometheus, on its health port: counted where it happens, read when somebody asks."""

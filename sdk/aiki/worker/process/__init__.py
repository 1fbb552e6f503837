"""One worker process from its start to its end: the public `Worker`, its session with a server, health, metrics and signals."""

"""The line to the server: the worker protocol over HTTP, the commit pipe, the heartbeat with its lease, and what Redis tells."""

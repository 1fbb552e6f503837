"""SQL and nothing else: connections, statements by name, migrations, and one typed function for each statement in `queries/`."""

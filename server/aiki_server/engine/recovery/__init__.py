"""What puts right and forgets: sweeps over the tables, refills of Redis, retention. Nothing here is needed while all goes well."""

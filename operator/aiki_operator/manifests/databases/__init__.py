"""The managed Postgres and Valkey: their StatefulSets, and backups and restores of Postgres."""

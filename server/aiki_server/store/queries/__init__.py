"""One typed function for each SQL statement; `claims.py` runs what is in `sql/claims.sql`, and so on."""

"""Decide and write: what an operation does to a run, and the transactions that carry many of them out at once."""

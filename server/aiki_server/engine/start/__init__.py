"""New runs: many starts in one transaction, and at most one run for each ref."""

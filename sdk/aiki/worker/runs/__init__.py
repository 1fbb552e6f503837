"""The runs in hand, from claim to release: each has an activation that drives the pure execution and commits what it did."""

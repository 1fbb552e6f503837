"""Kubernetes objects as plain dictionaries, one file a kind: pure functions of a spec and the names in it."""

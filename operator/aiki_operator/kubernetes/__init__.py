"""The Kubernetes API: the one client of it, the cache that watches fill, and how to sign in."""

"""The Aiki server."""

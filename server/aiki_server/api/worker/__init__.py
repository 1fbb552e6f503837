"""The worker protocol over HTTP, and the checks of what workers write."""

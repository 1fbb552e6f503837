"""Replay and memoization: the pure core that runs workflow code, one activation at a time."""

"""How long to wait before trying again: exponential, bounded, and jittered, so that many callers do not come back together."""

from __future__ import annotations


def backoff_seconds(failures: int, random: float, *, base_seconds: float = 0.05, max_seconds: float = 2.0) -> float:
    """Seconds to wait after `failures` (from 1) in a row; `random` is in [0, 1) and takes away up to half."""
    longest = min(max_seconds, base_seconds * 2.0 ** min(failures - 1, 30))
    return longest * (1.0 - random / 2)

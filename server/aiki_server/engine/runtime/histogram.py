"""How long things took, counted in buckets: two additions an observation, and nothing that grows."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Upper bounds of the buckets; one more takes what is above them all."""


class Histogram:
    """Of seconds. `observe` is called on the hot path."""

    __slots__ = ("_counts", "sum")

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one. Two clocks may disagree by a little: what would be negative is nothing."""
        if seconds > 0.0:
            self._counts[bisect_left(SECONDS, seconds)] += 1
            self.sum += seconds
        else:
            self._counts[0] += 1

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """For each upper bound, as text, how many were at most that: the form that Prometheus wants."""
        return list(zip([*map(str, SECONDS), "+Inf"], accumulate(self._counts), strict=True))

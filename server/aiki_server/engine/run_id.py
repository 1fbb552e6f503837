"""Ids of runs: shard (2 hex digits), creation time in ms (12), randomness (18). They sort by time within a shard.

Those that one server makes sort in the order in which it made them, also within a millisecond: so listings show a batch in its order.
"""

from __future__ import annotations

import secrets
import time
from uuid import UUID

_RANDOM_BITS = 72
_STEP_BITS = 40
"""How far the next id of the same millisecond lies behind, at most: not to be guessed, and far from an overflow."""


class RunIds:
    """Makes ids for runs that are created now, in shard 00."""

    def __init__(self) -> None:
        self._last = 0

    def new(self) -> UUID:
        """An id that nobody has."""
        fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        self._last = fresh if fresh > self._last else self._last + 1 + secrets.randbits(_STEP_BITS)
        return UUID(int=self._last)

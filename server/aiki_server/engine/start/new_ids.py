"""Ids of runs: shard (2 hex digits), creation time in ms (12), randomness (18). They sort by time within a shard.

Those that one server makes sort in the order in which it made them, also within a millisecond: so listings show a batch in its order.
"""

from __future__ import annotations

import os
import time
from uuid import UUID

from aiki_server.model.run_ids import run_id_of

_RANDOM_BITS = 72
_STEP_BYTES = 5
"""How far the next id of the same millisecond lies behind, at most: not to be guessed, and far from an overflow."""
_DRAWN_BYTES = 576
"""Of randomness that the system is asked for at once: each question costs more than an id."""


class RunIds:
    """Makes ids for runs that are created now, in shard 00."""

    def __init__(self) -> None:
        self._last = 0
        self._drawn = b""
        self._used = 0

    def new(self) -> UUID:
        """An id that nobody has."""
        now = (time.time_ns() // 1_000_000) << _RANDOM_BITS
        self._last = now | self._random(_RANDOM_BITS // 8) if now > self._last else self._last + 1 + self._random(_STEP_BYTES)
        return run_id_of(self._last.to_bytes(16, "big"))

    def _random(self, size: int) -> int:
        """Of so many bytes, none of which was used before."""
        begin, end = self._used, self._used + size
        if end > len(self._drawn):
            self._drawn, begin, end = os.urandom(_DRAWN_BYTES), 0, size
        self._used = end
        return int.from_bytes(self._drawn[begin:end], "big")

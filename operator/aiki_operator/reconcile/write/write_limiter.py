"""How often an object is written: what was refused is left alone for a while, and nothing is written over and over.

An object at rest costs five writes a minute at most, whatever a webhook or a stranger makes of what we write.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiki_operator.kubernetes.cache import Key
from aiki_operator.plan.rejection import Rejection

WINDOW_SECONDS = 60.0
WRITES = 5
"""So often in a window the same thing is written to the same object."""
FIRST_PAUSE, LONGEST_PAUSE = 5.0, 15.0
"""After a refusal; each is five seconds longer than the one before. The first five fall into a minute."""


@dataclass(slots=True)
class _PastWrites:
    """What was tried last with an object."""

    what: Any
    written_at: list[float] = field(default_factory=list)
    rejection: Rejection | None = None
    until: float = 0.0
    pause: float = 0.0


class WriteLimiter:
    """When each object was written with what; lives as long as the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._past_writes: dict[Key, _PastWrites] = {}

    def rejection(self, key: Key, what: Any) -> Rejection | None:
        """Why this is not to be tried now: it was refused a moment ago."""
        past = self._of(key, what)
        return past.rejection if past.rejection is not None and self._clock() < past.until else None

    def exhausted(self, key: Key, what: Any) -> bool:
        """Whether the same thing was written so often lately that it does no good."""
        past = self._of(key, what)
        past.written_at = [at for at in past.written_at if self._clock() - at < WINDOW_SECONDS]
        return len(past.written_at) >= WRITES

    def wrote(self, key: Key, what: Any) -> None:
        """It was taken."""
        past = self._of(key, what)
        past.rejection, past.pause = None, 0.0
        past.written_at.append(self._clock())

    def refused(self, key: Key, what: Any, rejection: Rejection) -> None:
        """It was not; the next try waits longer each time."""
        past = self._of(key, what)
        past.pause = min(LONGEST_PAUSE, past.pause + FIRST_PAUSE)
        past.rejection, past.until = rejection, self._clock() + past.pause

    def forget(self, key: Key) -> None:
        """The object is gone, or is as it should be."""
        self._past_writes.pop(key, None)

    def sweep(self) -> None:
        """Forgets what was tried longest ago: it bears on nothing any more."""
        now = self._clock()
        old = [key for key, past in self._past_writes.items() if now - max([past.until, *past.written_at]) > WINDOW_SECONDS]
        for key in old:
            del self._past_writes[key]

    def _of(self, key: Key, what: Any) -> _PastWrites:
        past = self._past_writes.get(key)
        if past is None or past.what != what:
            past = self._past_writes[key] = _PastWrites(what)
        return past

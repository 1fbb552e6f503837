"""What a status says of the queue: how many runs wait, and since when the oldest does.

They change all the time where there is work, and each change of a status is a write: so they are renewed now and then, and
the status has the instant rather than the age, which would never stand still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiki_operator.kubernetes.cache import Key
from aiki_operator.scaling.load import Load

AGAIN_SECONDS = 10.0


class QueueFigures:
    """The figures of custom resources, as they were told last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._written: dict[Key, tuple[float, Mapping[str, Any]]] = {}

    def members(self, key: Key, loads: Iterable[Load]) -> Mapping[str, Any]:
        """The members of the status; none while nothing is known."""
        at, before = self._written.get(key, (float("-inf"), {}))
        found = figures(loads)
        if not found or (before and self._clock() - at < AGAIN_SECONDS):
            return before if found else {}
        self._written[key] = (self._clock(), found)
        return found

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._written.pop(key, None)


def figures(loads: Iterable[Load]) -> dict[str, Any]:
    """The sum over readings, as the status has it.

    >>> from aiki_operator.scaling.load import NOTHING
    >>> figures([NOTHING, NOTHING]), figures([])
    ({'queued': 0}, {})
    """
    known = list(loads)
    if not known:
        return {}
    since = min((load.oldest_queued_at for load in known if load.oldest_queued_at is not None), default=None)
    oldest = {} if since is None else {"oldestQueuedAt": since.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return {"queued": sum(load.queued for load in known), **oldest}

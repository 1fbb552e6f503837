"""What the autoscaler asks for later: how much was queued and served, in buckets of time that vanish by themselves.

Counted here and told to Redis once a second, not with every ring: a count may be late, and may be lost; a ring is waited for.
"""

from __future__ import annotations

import time

from aiki_server.engine.commit.after_commit import Effects

Command = tuple[str | bytes | int | float, ...]
BUCKET_SECONDS = 10
BUCKET_LIFE_SECONDS = 400


class Tally:
    """`add` what came of transactions; `take` the commands that tell Redis of it."""

    def __init__(self) -> None:
        self._arrivals: dict[str, int] = {}
        self._served: dict[str, tuple[int, float]] = {}

    def __bool__(self) -> bool:
        return bool(self._arrivals or self._served)

    def add(self, effects: Effects) -> None:
        """Count what was queued and what ended, in the bucket of this moment."""
        bucket = int(time.time()) // BUCKET_SECONDS
        for (namespace, pool, *_), runs in effects.queued.items():
            key = arrivals_key(namespace, pool, bucket)
            self._arrivals[key] = self._arrivals.get(key, 0) + len(runs)
        for namespace, pool, seconds in effects.served:
            key = served_key(namespace, pool, bucket)
            count, total = self._served.get(key, (0, 0.0))
            self._served[key] = count + 1, total + seconds

    def take(self) -> list[Command]:
        """What to tell Redis; afterwards nothing is left."""
        commands: list[Command] = []
        for key, count in self._arrivals.items():
            commands += [("HINCRBY", key, "n", count), ("EXPIRE", key, BUCKET_LIFE_SECONDS)]
        for key, (count, seconds) in self._served.items():
            commands += [("HINCRBYFLOAT", key, "seconds", seconds), ("HINCRBY", key, "n", count), ("EXPIRE", key, BUCKET_LIFE_SECONDS)]
        self._arrivals.clear()
        self._served.clear()
        return commands


def arrivals_key(namespace: str, pool: str, bucket: int) -> str:
    """The hash that counts the runs which were queued for a pool in one stretch of time."""
    return f"aiki:{{{namespace}:{pool}}}:arrivals:{bucket}"


def served_key(namespace: str, pool: str, bucket: int) -> str:
    """The hash that counts the activations of a pool which ended in one stretch of time, and sums their seconds."""
    return f"aiki:{{{namespace}:{pool}}}:served:{bucket}"

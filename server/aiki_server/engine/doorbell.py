"""Telling Redis: runs that may be claimed (XADD), news for workers and ended runs (PUBLISH), all of a moment in one pipeline.

Redis may lose everything, so nothing here may fail an operation or make it wait: what cannot be sent is dropped, and the
sweeper refills the streams from Postgres. While Redis is away one attempt is made per pause, not one per message.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from aiki_server.engine.effects import Effects
from aiki_server.engine.streams import done_channel, news_channel, stream

log = logging.getLogger(__name__)

Command = tuple[str | bytes | int | float, ...]
PAUSE = 1.0
MOST_PENDING = 100_000
BUCKET_SECONDS = 10
MOST_AT_ONCE = 500
ADD_ALL = "for _, run in ipairs(ARGV) do redis.call('XADD', KEYS[1], '*', 'r', run) end"
BUCKET_LIFE = 400


class Doorbell:
    """`ring` never waits and never fails; `turn` has to be repeated by a Loop. `redis` is None where there is none."""

    def __init__(self, redis: Redis | None) -> None:
        self.up = redis is not None
        self.dropped = 0
        self._redis = redis
        self._pending: list[Command] = []
        self._arrived = asyncio.Event()

    def ring(self, effects: Effects) -> None:
        """Tell Redis soon what came of a transaction."""
        if self._redis is None:
            return
        commands = _commands(effects, bucket=int(time.time()) // BUCKET_SECONDS)
        if not commands:
            return
        if len(self._pending) + len(commands) > MOST_PENDING:
            self.dropped += len(commands)
            return
        self._pending.extend(commands)
        self._arrived.set()

    def publish(self, channel: str, message: str) -> None:
        """Tell whoever listens."""
        if self._redis is not None and len(self._pending) < MOST_PENDING:
            self._pending.append(("PUBLISH", channel, message))
            self._arrived.set()

    async def turn(self) -> None:
        """Send what has gathered, or wait a while for something to gather."""
        try:
            async with asyncio.timeout(30):
                await self._arrived.wait()
        except TimeoutError:
            return
        self._arrived.clear()
        commands, self._pending = self._pending, []
        await self._send(commands)

    async def _send(self, commands: Sequence[Command]) -> None:
        if not commands:
            return
        assert self._redis is not None
        try:
            pipeline = self._redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            await pipeline.execute(raise_on_error=True)
        except (RedisError, OSError, TimeoutError) as error:
            self.dropped += len(commands)
            if self.up:
                log.warning("redis is away; work goes on through Postgres", extra={"error": str(error)})
            self.up = False
            await asyncio.sleep(PAUSE)
            return
        if not self.up:
            log.info("redis is back")
        self.up = True


def arrivals_key(namespace: str, pool: str, bucket: int) -> str:
    """The hash that counts the runs which were queued for a pool in one stretch of time."""
    return f"aiki:{{{namespace}:{pool}}}:arrivals:{bucket}"


def served_key(namespace: str, pool: str, bucket: int) -> str:
    """The hash that counts the activations of a pool which ended in one stretch of time, and sums their seconds."""
    return f"aiki:{{{namespace}:{pool}}}:served:{bucket}"


def _commands(effects: Effects, *, bucket: int) -> list[Command]:
    commands: list[Command] = []
    for (namespace, pool, workflow, version, build), runs in effects.queued.items():
        key = stream(namespace, pool, workflow, version, build)
        commands.extend(_added(key, [run.hex for run in runs]))
        commands.extend(_counted(arrivals_key(namespace, pool, bucket), "n", len(runs)))
    for namespace, worker, run in effects.news:
        commands.append(("PUBLISH", news_channel(namespace, worker), run.hex))
    ended: dict[str, list[UUID]] = {}
    for end in effects.ended:
        ended.setdefault(end.namespace, []).append(end.id)
    for namespace, ids in ended.items():
        commands.append(("PUBLISH", done_channel(namespace), ",".join(run.hex for run in ids)))
    served: dict[tuple[str, str], list[float]] = {}
    for namespace, pool, seconds in effects.served:
        served.setdefault((namespace, pool), []).append(seconds)
    for (namespace, pool), durations in served.items():
        key = served_key(namespace, pool, bucket)
        commands.append(("HINCRBYFLOAT", key, "seconds", sum(durations)))
        commands.extend(_counted(key, "n", len(durations)))
    return commands


def _added(key: str, runs: list[str]) -> list[Command]:
    """One entry a run. Many are added by one command: packing a command costs more than carrying it out."""
    if len(runs) == 1:
        return [("XADD", key, "*", "r", runs[0])]
    return [("EVAL", ADD_ALL, 1, key, *runs[first : first + MOST_AT_ONCE]) for first in range(0, len(runs), MOST_AT_ONCE)]


def _counted(key: str, field: str, number: int) -> list[Command]:
    """What the autoscaler asks for later: numbers of the last minutes, in buckets that vanish by themselves."""
    return [("HINCRBY", key, field, number), ("EXPIRE", key, BUCKET_LIFE)]

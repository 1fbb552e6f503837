"""Streams that hold fewer entries than Postgres has queued runs: the missing ones are rung again.

Which ones are missing nobody knows, so all of the stream's are rung; a claim takes a run once, however often it was rung. Only
runs queued for longer than a moment count, so that what is on its way is not rung twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from aiki_server.engine.commit.after_commit import Effects, Stream
from aiki_server.engine.redis.circuit import Circuit, is_about_a_key
from aiki_server.engine.redis.pipelined import ask_all
from aiki_server.engine.redis.stream_names import stream
from aiki_server.model.sweeps import Backlog
from aiki_server.store.connections import Pool
from aiki_server.store.queries import sweeps

log = logging.getLogger(__name__)

ON_ITS_WAY_SECONDS = 2.0
LIMIT = 10_000


class Refill:
    """`fill` compares and rings; `refilled` counts the entries."""

    def __init__(self, pool: Pool, circuit: Circuit, *, after: Callable[[Effects], None]) -> None:
        self.refilled = 0
        self._pool = pool
        self._circuit = circuit
        self._after = after

    async def fill(self, backlogs: Iterable[Backlog]) -> None:
        """Ring what streams have lost, given how many runs have been queued for longer than a moment."""
        streams = [(place, backlog) for backlog in backlogs if (place := _stream(backlog)) is not None]
        redis = self._circuit.redis
        if redis is None or not streams:
            return
        try:
            lengths = await self._lengths(redis, [stream(*place) for place, _ in streams])
        except (RedisError, OSError, TimeoutError) as error:
            self._circuit.failed(error)
            return
        effects = Effects()
        for (place, backlog), length in zip(streams, lengths, strict=True):
            if length is not None and length < backlog.runs:
                await self._add(effects, place)
        self._after(effects)

    async def ring_again(self, runs: Sequence[UUID]) -> None:
        """Ring those of the runs that nobody has claimed."""
        async with self._pool.acquire() as db:
            left = await sweeps.still_queued(db, runs)
        effects = Effects()
        for namespace, pool, workflow, version, build, run in left:
            effects.ring((namespace, pool, workflow, version, build), run)
        self._after(effects)

    async def _lengths(self, redis: Redis, streams: list[str]) -> list[int | None]:
        """None of a key that is no stream: nothing can be added to it. Some at a time, between which others have their turn."""
        found = await ask_all(redis, [("xlen", (name,)) for name in streams])
        for answer in found:
            if isinstance(answer, Exception) and not is_about_a_key(answer):
                raise answer
        return [answer if isinstance(answer, int) else None for answer in found]

    async def _add(self, effects: Effects, place: Stream) -> None:
        async with self._pool.acquire() as db:
            runs = await sweeps.queued_ids(db, place, seconds=ON_ITS_WAY_SECONDS, limit=LIMIT)
        for run in runs:
            effects.ring(place, run)
        self.refilled += len(runs)
        log.info("stream refilled", extra={"stream": stream(*place), "entries": len(runs)})


def _stream(backlog: Backlog) -> Stream | None:
    namespace, pool, workflow, version, build = backlog.place
    return None if pool is None or version is None else (namespace, pool, workflow, version, build)

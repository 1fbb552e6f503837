"""The doorbell: entries of Redis streams that say "this run may be claimed".

Redis may be gone, silent, empty, full, or full of nonsense at any instant; all of that ends in `StreamsUnavailable` or in fewer entries, never in a lost run. Groups are
made when Redis says that one is missing, and never assumed to exist. Acknowledgements travel with the next read: the hot path has
one round trip. A connection on which a command was interrupted is dropped, for its answer may still be in the socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.exceptions import RedisError

from aiki.protocol import CONSUMER_GROUP, is_run_id
from aiki.shared.backoff import backoff_seconds
from aiki.shared.redis_link import connection

log = logging.getLogger("aiki.worker")

ANSWER_SECONDS: Final = 0.5
"""How much longer than its own BLOCK a read may take. A Redis that is slower than that is as good as none: the worker polls."""
PROBE_SECONDS: Final = 0.5
"""How long a look whether Redis can be read again may take."""

MOST_UNANSWERED: Final = 500
"""Entries of each stream that are asked for again after a read that was interrupted; what is left is taken over as from any other worker."""
MALFORMED_SECONDS: Final = 60.0


class StreamsUnavailable(Exception):
    """Redis cannot be read now; poll Postgres through the server instead."""


@dataclass(frozen=True, slots=True)
class Ring:
    """One entry. `run` is None where it names none: such an entry is only good to be deleted."""

    stream: str
    entry: bytes
    run: str | None


class Streams:
    """Reads as one consumer of the group of each stream."""

    def __init__(self, url: str, consumer: str, *, block_seconds: float) -> None:
        self.groups_missing = 0
        """How often a read found no group: Redis has lost its data that often, or a stream was new."""
        self.malformed = 0
        """How many entries named no run."""
        self._malformed_said = 0
        self._say_malformed_at = 0.0
        self._consumer = consumer
        self._block_ms = int(block_seconds * 1_000)
        self._answer_seconds = block_seconds + ANSWER_SECONDS
        self._url = url
        self._redis = connection(url, answer_seconds=self._answer_seconds)
        self._acks: defaultdict[str, list[bytes]] = defaultdict(list)
        self._missing_in_a_row = 0

    async def read(self, streams: Sequence[str], *, count: int) -> list[Ring]:
        """New entries, up to `count` of each stream, waiting for the first up to the block time; acknowledges what is due on the way."""
        answers = await self._exchange([self._reading(streams, count, "BLOCK", self._block_ms)], streams)
        return [] if answers is None else self._looked_at(_rings(answers[0]))

    async def unanswered(self, streams: Sequence[str]) -> list[Ring]:
        """Entries that this consumer has read and not acknowledged: the answer to a read may have been lost. Not all, where there are very many."""
        answers = await self._exchange([self._reading(streams, MOST_UNANSWERED, of="0")], streams)
        return [] if answers is None else self._looked_at(_rings(answers[0]))

    async def abandoned(self, streams: Sequence[str], *, idle_seconds: float, count: int) -> list[Ring]:
        """Entries that some worker has read and not acknowledged for `idle_seconds`: now this consumer's."""
        answers = await self._exchange(self._taking_over(streams, idle_seconds, count), streams)
        return [] if answers is None else self._looked_at(_taken_over(streams, answers))

    def acknowledge(self, rings: Iterable[Ring]) -> None:
        """These were dealt with; said to Redis with the next exchange."""
        for ring in rings:
            self._acks[ring.stream].append(ring.entry)

    async def flush(self) -> None:
        """Say now what is left to acknowledge."""
        if self._acks:
            await self._exchange([], ())

    async def probe(self, streams: Sequence[str], *, idle_seconds: float) -> list[Ring]:
        """One entry of each stream, read as everything else is: that Redis answers a PING does not say that it can be read."""
        commands = [*self._taking_over(streams, idle_seconds, 1), self._reading(streams, 1)]
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                answers = await self._exchange(commands, streams)
        except TimeoutError as error:
            raise StreamsUnavailable("Redis does not answer") from error
        return [] if answers is None else _taken_over(streams, answers[:-1]) + _rings(answers[-1])

    async def use(self, url: str) -> None:
        """Reach Redis by this URL from now on: the server has given this worker other credentials."""
        if url != self._url:
            before, self._url, self._redis = self._redis, url, connection(url, answer_seconds=self._answer_seconds)
            self._acks.clear()
            await before.aclose()

    async def close(self) -> None:
        """Drop the connection."""
        await self._redis.aclose()

    def _looked_at(self, rings: list[Ring]) -> list[Ring]:
        """The same; entries that are none of ours are counted, and said once a while, however many there are."""
        self.malformed += sum(ring.run is None for ring in rings)
        if self.malformed > self._malformed_said and time.monotonic() >= self._say_malformed_at:
            self._malformed_said, self._say_malformed_at = self.malformed, time.monotonic() + MALFORMED_SECONDS
            log.warning("malformed stream entries dropped", extra={"entries": self.malformed})
        return rings

    def _reading(self, streams: Sequence[str], count: int, *block: str | int, of: str = ">") -> tuple[Any, ...]:
        return "XREADGROUP", "GROUP", CONSUMER_GROUP, self._consumer, "COUNT", count, *block, "STREAMS", *streams, *[of] * len(streams)

    def _taking_over(self, streams: Sequence[str], idle_seconds: float, count: int) -> list[tuple[Any, ...]]:
        idle_ms = int(idle_seconds * 1_000)
        return [("XAUTOCLAIM", stream, CONSUMER_GROUP, self._consumer, idle_ms, "0-0", "COUNT", count) for stream in streams]

    async def _exchange(self, commands: Sequence[tuple[Any, ...]], streams: Sequence[str]) -> list[Any] | None:
        """The answers; None where a group was missing, which is made, so that the next exchange finds it."""
        pipeline = self._redis.pipeline(transaction=False)
        for stream, entries in self._acks.items():
            pipeline.execute_command("XACK", stream, CONSUMER_GROUP, *entries)
            pipeline.execute_command("XDEL", stream, *entries)
        said = len(pipeline)
        for command in commands:
            pipeline.execute_command(*command)
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            await self._drop()
            raise StreamsUnavailable(str(error) or type(error).__name__) from error
        except BaseException:
            await self._drop()
            raise
        self._acks.clear()
        for answer in answers[:said]:
            # A group that is gone took what was to be acknowledged with it.
            if isinstance(answer, Exception) and not str(answer).startswith("NOGROUP"):
                raise StreamsUnavailable(str(answer)) from answer
        return await self._checked(answers[said:], streams)

    async def _checked(self, answers: list[Any], streams: Sequence[str]) -> list[Any] | None:
        problems = [answer for answer in answers if isinstance(answer, Exception)]
        if not problems:
            self._missing_in_a_row = 0
            return answers
        for problem in problems:
            if not str(problem).startswith(("NOGROUP", "UNBLOCKED")):
                raise StreamsUnavailable(str(problem)) from problem
        await self._create_groups(streams)
        return None

    async def _create_groups(self, streams: Sequence[str]) -> None:
        self.groups_missing += 1
        self._missing_in_a_row += 1
        log.info("stream groups missing", extra={"streams": list(streams), "times": self.groups_missing})
        if self._missing_in_a_row > 1:
            # NOGROUP comes at once, so BLOCK paces nothing: somebody is deleting groups as fast as we make them.
            await asyncio.sleep(backoff_seconds(self._missing_in_a_row, random.random()))  # noqa: S311  jitter, not a secret
        pipeline = self._redis.pipeline(transaction=False)
        for stream in streams:
            pipeline.execute_command("XGROUP", "CREATE", stream, CONSUMER_GROUP, "0", "MKSTREAM")
        try:
            answers = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            await self._drop()
            raise StreamsUnavailable(str(error) or type(error).__name__) from error
        for answer in answers:
            if isinstance(answer, Exception) and not str(answer).startswith("BUSYGROUP"):
                raise StreamsUnavailable(str(answer)) from answer

    async def _drop(self) -> None:
        # What was to be acknowledged is acknowledged by whoever finds it pending: nothing is lost with it.
        self._acks.clear()
        await self._redis.connection_pool.disconnect()


def _rings(answer: Any) -> list[Ring]:
    return [_ring(_text(stream), entry, fields) for stream, entries in answer or () for entry, fields in entries]


def _taken_over(streams: Sequence[str], answers: Sequence[Any]) -> list[Ring]:
    found = zip(streams, answers, strict=True)
    return [_ring(stream, entry, fields) for stream, answer in found for entry, fields in answer[1] if entry is not None]


def _ring(stream: str, entry: bytes, fields: dict[bytes, bytes] | None) -> Ring:
    run = (fields or {}).get(b"r", b"").decode("ascii", "replace")
    return Ring(stream, entry, run if is_run_id(run) else None)


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode()

"""The doorbell: entries of Redis streams that say "this run may be claimed".

Redis may be gone, empty, or full of nonsense at any instant; all of that ends in `StreamsUnavailable` or in fewer entries, never in a lost run. Groups are
made when Redis says that one is missing, and never assumed to exist. Acknowledgements travel with the next read: the hot path has
one round trip. A connection on which a command was interrupted is dropped, for its answer may still be in the socket.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from aiki.client.backoff import backoff_seconds
from aiki.protocol import RUN_ID_PATTERN

log = logging.getLogger("aiki.worker")

GROUP: Final = "workers"
CONNECT_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 3.0
"""How much longer than its own BLOCK a read may take."""

_RUN_ID: Final = re.compile(RUN_ID_PATTERN.removesuffix("$").encode())


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
        self._consumer = consumer
        self._block_ms = int(block_seconds * 1_000)
        self._redis = connection(url, answer_seconds=block_seconds + ANSWER_SECONDS)
        self._acks: defaultdict[str, list[bytes]] = defaultdict(list)
        self._missing_in_a_row = 0

    async def read(self, streams: Sequence[str], *, count: int) -> list[Ring]:
        """New entries, up to `count` of each stream, waiting for the first up to the block time; acknowledges what is due on the way."""
        command = (
            "XREADGROUP",
            "GROUP",
            GROUP,
            self._consumer,
            "COUNT",
            count,
            "BLOCK",
            self._block_ms,
            "STREAMS",
            *streams,
            *[">"] * len(streams),
        )
        answers = await self._exchange([command], streams)
        if answers is None:
            return []
        return [_ring(_text(stream), entry, fields) for stream, entries in answers[0] or () for entry, fields in entries]

    async def abandoned(self, streams: Sequence[str], *, idle_seconds: float, count: int) -> list[Ring]:
        """Entries that some worker has read and not acknowledged for `idle_seconds`: now this consumer's."""
        idle_ms = int(idle_seconds * 1_000)
        commands = [("XAUTOCLAIM", stream, GROUP, self._consumer, idle_ms, "0-0", "COUNT", count) for stream in streams]
        answers = await self._exchange(commands, streams)
        if answers is None:
            return []
        found = zip(streams, answers, strict=True)
        return [_ring(stream, entry, fields) for stream, answer in found for entry, fields in answer[1] if entry is not None]

    def acknowledge(self, rings: Iterable[Ring]) -> None:
        """These were dealt with; said to Redis with the next exchange."""
        for ring in rings:
            self._acks[ring.stream].append(ring.entry)

    async def flush(self) -> None:
        """Say now what is left to acknowledge."""
        if self._acks:
            await self._exchange([], ())

    async def available(self) -> bool:
        """Whether Redis answers."""
        try:
            await self._exchange([("PING",)], ())
        except StreamsUnavailable:
            return False
        return True

    async def close(self) -> None:
        """Drop the connection."""
        await self._redis.aclose()

    async def _exchange(self, commands: Sequence[tuple[Any, ...]], streams: Sequence[str]) -> list[Any] | None:
        """The answers; None where a group was missing, which is made, so that the next exchange finds it."""
        pipeline = self._redis.pipeline(transaction=False)
        for stream, entries in self._acks.items():
            pipeline.execute_command("XACK", stream, GROUP, *entries)
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
            pipeline.execute_command("XGROUP", "CREATE", stream, GROUP, "0", "MKSTREAM")
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


def connection(url: str, *, answer_seconds: float | None) -> Redis:
    """A client that neither retries by itself nor waits without end to connect; RESP2, whose answers have one shape in all versions."""
    options: dict[str, Any] = {} if url.startswith("unix:") else {"socket_keepalive": True}
    return Redis.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=answer_seconds,
        socket_connect_timeout=CONNECT_SECONDS,
        **options,
    )


def _ring(stream: str, entry: bytes, fields: dict[bytes, bytes] | None) -> Ring:
    run = (fields or {}).get(b"r")
    if run is None or not _RUN_ID.fullmatch(run):
        log.warning("malformed stream entry dropped", extra={"stream": stream, "entry": entry.decode("utf-8", "replace")})
        return Ring(stream, entry, None)
    return Ring(stream, entry, run.decode())


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode()

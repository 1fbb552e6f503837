"""Connections to Redis that wait for a bounded time, and take in a bounded answer. Workers and the server make theirs here.

Redis is a doorbell whose contents anybody with its password may have written. An answer that is larger than any of ours can be ends
the connection instead of filling the memory of the process. A client never repeats a command that was not answered in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

CONNECT_SECONDS: Final = 1.0
QUIET_SECONDS: Final = 5.0
"""A subscription that hears nothing for so long asks whether anybody is there, and is lost if nobody answers in the same time."""
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
"""Of one answer. The largest of ours are 500 entries of some 60 bytes, of each stream that a worker reads."""


class AnswerTooLargeError(RedisConnectionError):
    """The connection is of no use any more: the rest of the answer is still on its way."""


def connection(url: str, *, answer_seconds: float | None, tries: int = 1) -> Redis:
    """A client. RESP2 has one shape of answers in all versions; of `tries`, those after the first are for connections that were dead."""
    options: dict[str, Any] = {} if url.startswith("unix:") else {"socket_keepalive": True}
    pool = ConnectionPool.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), tries - 1, supported_errors=(RedisConnectionError,)),
        socket_timeout=answer_seconds,
        socket_connect_timeout=CONNECT_SECONDS,
        **options,
    )
    pool.connection_class = _bounded(pool.connection_class)
    return Redis.from_pool(pool)


class Subscription:
    """Channels and patterns, heard on a connection of its own; made anew by whoever is told that it is lost."""

    def __init__(self, redis: Redis, *, channels: Sequence[str], patterns: Sequence[str] = ()) -> None:
        self._pubsub = redis.pubsub()
        self._channels = channels
        self._patterns = patterns
        self._heard_at = time.monotonic()

    async def open(self) -> None:
        """Subscribe. What is published from then on is heard; a refusal is raised by the first `message`."""
        if self._patterns:
            await self._pubsub.psubscribe(*self._patterns)
        await self._pubsub.subscribe(*self._channels)

    async def message(self) -> tuple[str, bytes] | None:
        """Channel and message; None now and then, where there is none. Raises a RedisError where the connection is lost."""
        found = await self._pubsub.get_message(timeout=QUIET_SECONDS)
        if found is not None:
            self._heard_at = time.monotonic()
            known = found["type"] in ("message", "pmessage")
            return (found["channel"].decode("utf-8", "replace"), found["data"]) if known else None
        if time.monotonic() - self._heard_at > 1.5 * QUIET_SECONDS:
            raise RedisConnectionError("Redis does not answer")
        await self._pubsub.ping()  # its answer comes as a message
        return None

    async def close(self) -> None:
        """Drop the connection: a reply may be left in it."""
        await self._pubsub.aclose()  # type: ignore[no-untyped-call]


def _bounded(kind: Any) -> Any:
    """The class of connections (TCP, TLS or a Unix socket) that give up on an answer which is too large."""

    class Bounded(kind):  # type: ignore[misc]  # which class it is depends on the URL
        _reader: Any

        async def _connect(self) -> None:
            await super()._connect()
            self._reader = _Reader(self._reader)

        async def read_response(self, *args: Any, **options: Any) -> Any:
            if self._reader is not None:
                self._reader.taken = 0
            return await super().read_response(*args, **options)

    return Bounded


class _Reader:
    """An asyncio.StreamReader that counts what is taken from it; a response sets the count back."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.taken = 0
        self._stream = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def read(self, count: int) -> bytes:
        """As the stream does: what is there, up to `count` bytes."""
        data = await self._stream.read(count)
        self._count(len(data))
        return data

    async def readexactly(self, count: int) -> bytes:
        """As the stream does, if that is not too many."""
        self._count(count)
        return await self._stream.readexactly(count)

    def _count(self, taken: int) -> None:
        self.taken += taken
        if self.taken > MAX_ANSWER_BYTES:
            raise AnswerTooLargeError(f"Redis answered with more than {MAX_ANSWER_BYTES:,} bytes")

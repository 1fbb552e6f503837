"""Hearing from other replicas by Redis Pub/Sub: runs that ended, registrations that changed, pools that want workers.

All of it only makes things faster; whoever waits has a fallback that asks Postgres. One connection, blocking, with a pause
after a failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from aiki_server.engine.streams import DONE

log = logging.getLogger(__name__)

WAKE = "aiki:wake"
REGISTRY = "aiki:registry"
PAUSE = 1.0
SILENCE = 5.0


class Listener:
    """`turn` has to be repeated by a Loop."""

    def __init__(
        self,
        redis: Redis,
        *,
        ended: Callable[[str, list[UUID]], Awaitable[None]],
        registered: Callable[[], Awaitable[None]],
        wake: Callable[[str], None],
    ) -> None:
        self._redis = redis
        self._ended = ended
        self._registered = registered
        self._wake = wake
        self._subscription: PubSub | None = None

    async def turn(self) -> None:
        """Handle one message, or a while of silence."""
        try:
            subscription = await self._subscribed()
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=SILENCE)
        except (RedisError, OSError, TimeoutError) as error:
            log.debug("not listening", extra={"error": str(error)})
            await self.close()
            await asyncio.sleep(PAUSE)
            return
        if message is not None:
            await self._handle(_text(message["channel"]), _text(message["data"]))

    async def close(self) -> None:
        """Drop the connection: a reply may be left in it."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.aclose()  # type: ignore[no-untyped-call]

    async def _subscribed(self) -> PubSub:
        if self._subscription is None:
            subscription = self._redis.pubsub()
            await subscription.psubscribe(f"{DONE}*")
            await subscription.subscribe(WAKE, REGISTRY)
            self._subscription = subscription
        return self._subscription

    async def _handle(self, channel: str, message: str) -> None:
        if channel == WAKE:
            self._wake(message)
        elif channel == REGISTRY:
            await self._registered()
        else:
            await self._ended(channel.removeprefix(DONE), [UUID(run) for run in message.split(",") if _is_id(run)])


def _is_id(text: str) -> bool:
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)


def _text(raw: object) -> str:
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)

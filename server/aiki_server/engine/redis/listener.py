"""Hearing from other replicas by Redis Pub/Sub: runs that ended, registrations that changed, pools that want workers.

All of it only makes things faster; whoever waits has a fallback that asks Postgres. So a message is a hint and no more, whoever wrote it: it is
of a bounded size, names what Postgres knows or is ignored, and however many come, Postgres is asked a bounded number of times.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from aiki.shared.redis_link import Subscription
from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.redis.needs import Trouble, trouble_of
from aiki_server.engine.redis.stream_names import DONE
from aiki_server.model.run_ids import run_id_of

log = logging.getLogger(__name__)

WAKE = "aiki:wake"
REGISTRY = "aiki:registry"
PAUSE = 1.0
MOST_BYTES = 1_000_000
"""Of one message. The longest of ours names the runs that ended in one transaction."""
RENEWAL_SECONDS = 0.1
"""At least so long lies between two readings of the registry that others ask for."""


class Listener:
    """`turn` and `renewals` have to be repeated by Loops."""

    def __init__(
        self,
        circuit: Circuit,
        *,
        ended: Callable[[str, list[UUID]], Awaitable[None]],
        registered: Callable[[], Awaitable[None]],
        wake: Callable[[str], None],
    ) -> None:
        self.trouble: Trouble | None = None
        """Why nothing is heard; None where the channels are subscribed, or Redis cannot be used at all."""
        self._circuit = circuit
        self._ended = ended
        self._registered = registered
        self._wake = wake
        self._changed = asyncio.Event()
        self._subscription: Subscription | None = None

    async def turn(self) -> None:
        """Handle one message, or a while of silence."""
        redis = self._circuit.redis
        if redis is None:
            await self.close()
            await asyncio.sleep(PAUSE)
            return
        try:
            message = await (await self._subscribed(redis)).message()
        except (RedisError, OSError, TimeoutError) as error:
            self._not_listening(error)
            await self.close()
            await asyncio.sleep(PAUSE)
            return
        self.trouble = None
        if message is not None:
            await self._handle(*message)

    async def renewals(self) -> None:
        """Look at what is registered once others have changed it, however often they say so."""
        await self._changed.wait()
        self._changed.clear()
        await self._registered()
        await asyncio.sleep(RENEWAL_SECONDS)

    async def close(self) -> None:
        """Drop the connection: a reply may be left in it."""
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await subscription.close()

    async def _subscribed(self, redis: Redis) -> Subscription:
        if self._subscription is None:
            self._subscription = Subscription(redis, channels=[WAKE, REGISTRY], patterns=[f"{DONE}*"])
            await self._subscription.open()
        return self._subscription

    def _not_listening(self, error: BaseException) -> None:
        found = trouble_of(error, "SUBSCRIBE and PSUBSCRIBE")
        if self.trouble is None or self.trouble.kind != found.kind:
            log.warning(
                "not listening to other servers; they are asked through Postgres", extra={"trouble": found.kind, "detail": found.text}
            )
        self.trouble = found

    async def _handle(self, channel: str, message: bytes) -> None:
        if len(message) > MOST_BYTES:
            return
        text = message.decode("utf-8", "replace")
        if channel == WAKE:
            self._wake(text)
        elif channel == REGISTRY:
            self._changed.set()
        else:
            await self._ended(channel.removeprefix(DONE), [run_id_of(run) for run in text.split(",") if _is_id(run)])


def _is_id(text: str) -> bool:
    return len(text) == 32 and all(character in "0123456789abcdef" for character in text)

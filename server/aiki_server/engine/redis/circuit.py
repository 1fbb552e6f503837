"""Whether Redis can be used: a circuit breaker that everything which asks Redis shares.

Redis may be away, silent, full, a read-only replica, too old, or forbid what is needed. Whatever it is, the work goes on through
Postgres: nobody asks Redis, and workers are told to poll. One party, this one, looks once a second whether *all* that is needed works
again, in one bounded attempt; and every few seconds while all is well, so that a Redis nobody asks is known to be sick as well.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from aiki_server.engine.redis.needs import Trouble, check_commands, trouble_of

log = logging.getLogger(__name__)

ANSWER_SECONDS = 1.0
"""What takes longer is as good as no answer."""
CHECK_SECONDS = 2.0
AGAIN_SECONDS = 1.0


class Circuit:
    """`turn` has to be repeated by a Loop. `restored` is called when Redis can be used again, for it may have lost everything."""

    def __init__(self, redis: Redis | None, *, restored: Callable[[], None]) -> None:
        self.trouble: Trouble | None = None
        """Why Redis cannot be used; None where it can, or where there is none."""
        self.failures = 0
        """How often it was found to fail."""
        self._redis = redis
        self._restored = restored
        self._key = f"aiki:check:{secrets.token_hex(8)}"
        self._failed = asyncio.Event()

    @property
    def usable(self) -> bool:
        """Whether there is a Redis, and it did all it was asked to lately."""
        return self._redis is not None and self.trouble is None

    @property
    def redis(self) -> Redis | None:
        """Redis, where it can be used."""
        return self._redis if self.trouble is None else None

    def failed(self, error: BaseException) -> None:
        """Somebody met this error: nobody asks Redis until it has been looked at."""
        self._set(trouble_of(error))
        self._failed.set()

    async def turn(self) -> None:
        """Look whether all that is needed works; then wait a while, or until somebody meets an error."""
        await self.check()
        self._failed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(CHECK_SECONDS if self.trouble is None else AGAIN_SECONDS):
                await (self._failed.wait() if self.trouble is None else asyncio.Event().wait())

    async def check(self) -> None:
        """One look."""
        if self._redis is None:
            return
        try:
            async with asyncio.timeout(2 * ANSWER_SECONDS):
                found = await check_commands(self._redis, self._key)
        except (RedisError, OSError, TimeoutError) as error:
            found = trouble_of(error)
        self._set(found)
        if found is not None:
            # Another server may be behind the same name by now, and a reply may be left in the connection.
            await self._redis.connection_pool.disconnect()

    def _set(self, found: Trouble | None) -> None:
        before, self.trouble = self.trouble, found
        if found is not None and (before is None or before.kind != found.kind):
            self.failures += 1
            log.warning("redis cannot be used; work goes on through Postgres", extra={"trouble": found.kind, "detail": found.text})
        if found is None and before is not None:
            log.info("redis can be used again")
            self._restored()


def is_about_a_key(error: BaseException) -> bool:
    """Whether an answer says that a key holds something else than ours would: nothing is wrong with Redis then."""
    return isinstance(error, ResponseError) and str(error).startswith("WRONGTYPE")

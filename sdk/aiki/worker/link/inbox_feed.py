"""Learns at once that something came in for a run in hand: an event, the end of a child, a cancellation, a pause.

A Pub/Sub message names a run, and heartbeats repeat what a lost message said; either way the items are fetched over HTTP, many runs in
one request. So Redis carries no content here either, and without it the heartbeat names the runs.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from redis.exceptions import RedisError

from aiki.errors import ApiError, ServerUnreachable
from aiki.protocol import MAX_BATCH, InboxQuery, InboxUpdate, InboxUpdates
from aiki.shared.backoff import backoff_seconds
from aiki.shared.redaction import shown
from aiki.shared.redis_link import Subscription, connection

log = logging.getLogger("aiki.worker")

LISTEN_SECONDS: Final = 2.0
"""How long Redis may take to take a subscription."""
RUN_ID_BYTES: Final = 32


class InboxFeed:
    """Two loops, `listen` and `fetch`, owned by the worker."""

    def __init__(
        self,
        *,
        ask: Callable[[Sequence[InboxQuery]], Awaitable[InboxUpdates]],
        query: Callable[[str], InboxQuery | None],
        deliver: Callable[[InboxQuery, InboxUpdate], None],
    ) -> None:
        self._ask = ask
        self._query = query
        self._deliver = deliver
        self._runs: dict[str, None] = {}
        self._some = asyncio.Event()

    def tell(self, runs: Iterable[str]) -> None:
        """There is something to fetch for these runs."""
        for run in runs:
            self._runs[run] = None
            self._some.set()

    async def listen(self, url: Callable[[], str], channel: str) -> None:
        """Hear of runs by Pub/Sub, for ever; while Redis is away, try again. `url` is asked for each time."""
        failures = 0
        while True:
            redis = connection(url(), answer_seconds=LISTEN_SECONDS)
            subscription = Subscription(redis, channels=[channel])
            try:
                await subscription.open()
                while True:
                    if (message := await subscription.message()) is not None:
                        failures = 0
                        self._heard(message[1])
            except (RedisError, OSError) as error:
                failures += 1
                log.log(
                    logging.INFO if failures == 1 else logging.DEBUG, "inbox channel lost", extra={"failures": failures, "error": error}
                )
            finally:
                await subscription.close()
                await redis.aclose()
            await asyncio.sleep(backoff_seconds(max(failures, 1), random.random()))  # noqa: S311  jitter, not a secret

    def _heard(self, message: bytes) -> None:
        """What is published is no more than a hint, whoever published it: it counts if it names a run in hand."""
        if len(message) == RUN_ID_BYTES and self._query(run := message.decode("ascii", "replace")) is not None:
            self.tell([run])

    async def fetch(self) -> None:
        """Fetch what there is for the runs told of, for ever."""
        failures = 0
        while True:
            await self._some.wait()
            try:
                await self._fetch_some()
                failures = 0
            except (ServerUnreachable, ApiError) as error:
                failures += 1
                log.warning("inbox not fetched", extra={"failures": failures, "error": error})
            except Exception as error:  # a turn of the loop: heartbeats will tell of the same runs again
                failures += 1
                log.exception("inbox feed failed", extra={"failures": failures}, exc_info=shown(error))
            if failures:
                await asyncio.sleep(backoff_seconds(failures, random.random()))  # noqa: S311  jitter, not a secret

    async def _fetch_some(self) -> None:
        runs = list(islice(self._runs, MAX_BATCH))
        queries = [query for query in map(self._query, runs) if query is not None]
        # Forgotten before the question, so that what is told of meanwhile is asked for again; put back if there was no answer.
        for run in runs:
            del self._runs[run]
        if not self._runs:
            self._some.clear()
        if not queries:
            return
        try:
            updates = await self._ask(queries)
        except (ServerUnreachable, ApiError):
            self.tell(query.run for query in queries)
            raise
        asked = {query.run: query for query in queries}
        for update in updates.runs:
            self._deliver(asked[update.run], update)
        if updates.more:
            self.tell(update.run for update in updates.runs if not update.stale)

"""Where a worker's work comes from: rings of the streams, claimed over HTTP, as many as there are free slots.

While Redis fails at anything, for this worker or for the server that rings, the same claims are made without rings, as a poll of Postgres through the
server: once a second, and at once again while there is work. Now and then the streams are probed, one bounded look at a time, by reading them as ever.
Whatever was claimed by an answer that got lost is asked for by later claims.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiki.errors import ApiError, ServerUnreachable
from aiki.protocol import MAX_BATCH, Assignment, Claimed
from aiki.shared.backoff import backoff_seconds
from aiki.shared.redaction import shown
from aiki.worker.claims.recovery import ClaimRecovery
from aiki.worker.link.redis_streams import Ring, Streams, StreamsUnavailable
from aiki.worker.runs.active_runs import ActiveRuns

log = logging.getLogger("aiki.worker")

POLL_SECONDS: Final = 1.0
ABANDONED_SECONDS: Final = 5.0
"""Rings that were read and not acknowledged for so long are taken over from whoever read them; looked for as often."""
CLAIM_PAUSE_SECONDS: Final = 1.5
"""How long the worker takes on nothing that is new to it after it handed back a run for others to try: longer than they wait between two polls."""
READ_COUNT: Final = 500
LONGEST_PROBE_PAUSE_SECONDS: Final = 5.0
"""From one look whether Redis can be read again to the next; the first comes after a second."""


Claim = Callable[[Sequence[str] | None, int, Sequence[str] | None], Awaitable[Claimed]]
"""(runs or None for any, limit, held after a lost answer)."""


class RunPoller:
    """One loop, `run`, until `stop`."""

    def __init__(self, *, claim: Claim, runs: ActiveRuns, streams: Streams | None, assignment: Assignment) -> None:
        self._claim = claim
        self._runs = runs
        self._streams = streams
        self._assignment = assignment
        self._changed = asyncio.Event()
        self._stopping = False
        self._claiming = False
        self._reading = False
        self._interrupted = False
        self._task: asyncio.Task[None] | None = None
        self._surplus: deque[Ring] = deque()
        self._recovery = ClaimRecovery()
        self._ringing = 1
        self._unanswered = False
        """Whether a read was interrupted: Redis may hold rings for this worker that it has not seen."""
        self._abandoned_sought_at = 0.0
        self._lost = False
        self._lost_because = ""
        self._probe_at = 0.0
        self._probe_pause_seconds = POLL_SECONDS
        self._failures = 0
        self._claims_again_at = 0.0
        self._when_paused: list[Callable[[], None]] = []
        self.claims = 0
        self.claims_failed = 0
        self.claimed = 0
        """Runs that claims were answered with."""

    @property
    def polling(self) -> bool:
        """Whether it asks once a second because Redis cannot be used, by this worker or by the server."""
        return self._streams is None or self._lost or self._assignment.poll

    def wake(self) -> None:
        """Something that the loop may wait for has changed: a slot is free, the lease holds again."""
        self._changed.set()

    def assign(self, assignment: Assignment) -> None:
        """From now on these streams, or none."""
        if assignment == self._assignment:
            return
        self._assignment = assignment
        self.interrupt()

    def interrupt(self) -> None:
        """Look again whether to claim, and what, also where the loop waits for a ring."""
        self._changed.set()
        if self._reading and self._task is not None:
            self._interrupted = self._unanswered = True
            self._task.cancel()  # a ring that was on its way stays pending in Redis, and is found there by the next read

    def pause_claims(self, then: Callable[[], None]) -> bool:
        """Neither read nor claim for a moment, so that what this worker hands back reaches another one, if one has a free slot.

        Whether that is so already; else `then` is called once a read or a claim that is under way has ended.
        """
        self._claims_again_at = time.monotonic() + CLAIM_PAUSE_SECONDS
        if not (self._reading or self._claiming):
            return True
        self._when_paused.append(then)
        self.interrupt()
        return False

    async def run(self) -> None:
        """Take on runs until told to stop."""
        self._task = asyncio.current_task()
        try:
            while not self._stopping:
                await self._turn_unless_interrupted()
        finally:
            if self._streams is not None:
                await self._streams.close()

    def stop(self) -> None:
        """Claim no more. A claim under way is answered first: what it grants would wait for nobody."""
        self._stopping = True
        self._changed.set()
        # While it reads, rests or waits for its next try.
        if self._task is not None and not self._claiming:
            self._task.cancel()

    async def _turn_unless_interrupted(self) -> None:
        try:
            await self._turn_safely()
        except asyncio.CancelledError:
            if not self._stopping and not self._interrupted:
                raise
            assert self._task is not None
            self._task.uncancel()
        finally:
            self._reading = self._interrupted = False
            when_paused, self._when_paused = self._when_paused, []
            for then in when_paused:
                then()

    async def _turn_safely(self) -> None:
        try:
            await self._turn()
            self._failures = 0
        except (ServerUnreachable, ApiError) as error:
            # What was read is claimed again; what was granted by an answer that got lost is asked for by the same claim.
            log.warning("claim failed", extra={"failures": self._failures + 1, "error": error})
            await self._back_off()
        except Exception as error:  # a turn of the loop: a worker that claims no more must not go on as if it did
            log.exception("run poller failed", extra={"failures": self._failures + 1}, exc_info=shown(error))
            await self._back_off()

    async def _back_off(self) -> None:
        self._failures += 1
        await asyncio.sleep(backoff_seconds(self._failures, random.random()))  # noqa: S311  jitter, not a secret

    async def _turn(self) -> None:
        self._changed.clear()
        free = self._runs.free()
        idle = self._assignment.drain or not self._assignment.streams
        if idle:
            self._surplus.clear()  # others take these over
        if free > 0 and self._surplus:
            await self._take_rings([self._surplus.popleft() for _ in range(min(free, len(self._surplus)))])
        elif (paused_for := self._claims_again_at - time.monotonic()) > 0:
            await self._pause(paused_for)
        elif free > 0 and self._recovery.should_ask:
            await self._take(None, limit=1)
        elif free <= 0 or idle:
            await self._wait_for_change()
        elif self._streams is None or self._lost or self._assignment.poll:
            await self._claim_by_polling(free)
        else:
            await self._read(free)

    async def _wait_for_change(self) -> None:
        try:
            if self._streams is not None:
                await self._streams.flush()
        except StreamsUnavailable as error:
            self._redis_lost(error)
        await self._changed.wait()

    async def _read(self, free: int) -> None:
        streams = self._assignment.streams
        assert self._streams is not None
        self._reading = True
        try:
            if self._unanswered:
                rings = await self._streams.unanswered(streams)
                self._unanswered = False
            elif time.monotonic() - self._abandoned_sought_at >= ABANDONED_SECONDS:
                self._abandoned_sought_at = time.monotonic()
                rings = await self._streams.abandoned(streams, idle_seconds=ABANDONED_SECONDS, count=free)
            else:
                # COUNT is per stream. What comes in beyond the free slots, because more streams ring than did last time, waits here.
                rings = await self._streams.read(streams, count=min(READ_COUNT, max(1, free // self._ringing)))
                self._ringing = max(1, len({ring.stream for ring in rings}))
        except StreamsUnavailable as error:
            self._redis_lost(error)
            return
        self._reading = False
        if self._stopping or self._interrupted:
            # The read went on though it was cancelled: before Python 3.12 a cancellation is lost where it comes as a wait ends.
            # These rings stay pending in Redis, and are found there by whoever may claim.
            self._unanswered = True
            return
        if rings:
            self._surplus.extend(rings[free:])
            await self._take_rings(rings[:free])

    async def _take_rings(self, rings: Sequence[Ring]) -> None:
        # Runs in hand as well: one may have been woken again before the answer to the commit that parked it is here.
        runs = list(dict.fromkeys(ring.run for ring in rings if ring.run is not None))
        left: frozenset[str] = frozenset()
        try:
            if runs:
                left = frozenset((await self._take(runs, limit=MAX_BATCH)).remaining)
        except (ServerUnreachable, ApiError):
            self._surplus.extendleft(reversed(rings))
            raise
        if left:  # there was no room for them in the answer
            self._surplus.extendleft(ring for ring in reversed(rings) if ring.run in left)
            rings = [ring for ring in rings if ring.run not in left]
        if self._streams is not None:
            self._streams.acknowledge(rings)

    async def _claim_by_polling(self, free: int) -> None:
        found = (await self._take(None, limit=min(free, MAX_BATCH))).runs
        if self._lost and time.monotonic() >= self._probe_at:
            await self._probe()
        if not found and not self._surplus:
            await self._pause(POLL_SECONDS)

    async def _probe(self) -> None:
        assert self._streams is not None
        self._reading = True
        try:
            rings = await self._streams.probe(self._assignment.streams, idle_seconds=ABANDONED_SECONDS)
        except StreamsUnavailable as error:
            self._redis_lost(error)
            return
        self._reading = self._lost = False
        self._surplus.extend(rings)
        log.info("redis is back")

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _take(self, runs: Sequence[str] | None, *, limit: int) -> Claimed:
        if self._stopping:
            raise asyncio.CancelledError  # as the loop would have been, had it not been about to claim
        held = self._runs.held() if self._recovery.should_ask else None
        self._claiming = True
        self.claims += 1
        try:
            claimed = await self._claim(runs, limit, held)
        except BaseException:
            self.claims_failed += 1
            self._recovery.claim_failed()  # whatever ended it, it may have been carried out
            raise
        finally:
            self._claiming = False
        if held is not None and not claimed.more:
            self._recovery.answered()
        self.claimed += len(claimed.runs)
        for run in claimed.runs:
            self._runs.accept(run)
        await asyncio.sleep(0)  # they begin before the next read is made
        return claimed

    def _redis_lost(self, error: StreamsUnavailable) -> None:
        self._reading = False
        self._surplus.clear()
        self._probe_pause_seconds = min(2 * self._probe_pause_seconds, LONGEST_PROBE_PAUSE_SECONDS) if self._lost else POLL_SECONDS
        self._probe_at = time.monotonic() + self._probe_pause_seconds
        # Said when it begins, and when the reason is another one.
        if not self._lost or str(error) != self._lost_because:
            log.warning("redis is unavailable: polling", extra={"error": error})
        self._lost, self._lost_because = True, str(error)

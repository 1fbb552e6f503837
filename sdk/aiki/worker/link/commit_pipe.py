"""The one way by which runs write: group commit.

A run that has something to say is put in; whatever arrives while requests are under way goes into the next one, and nothing waits on a
timer. What a run says is asked for at the last moment, so that all it has to say by then is one op. A run has one op under way at a time, so
its ops arrive in order; a lost answer is followed by the same bytes again, which the server knows by their number.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextvars import copy_context
from http import HTTPStatus
from itertools import islice
from time import perf_counter
from typing import Final, Protocol

from aiki.errors import ApiError, ServerUnreachable
from aiki.protocol import MAX_CHILDREN, MAX_REQUEST_BYTES, CommitAnswer, CommitOutcome, Committed
from aiki.shared.backoff import backoff_seconds
from aiki.shared.redaction import shown
from aiki.worker.background import BackgroundTasks
from aiki.worker.metrics.attempts import Durations

log = logging.getLogger("aiki.worker")

MAX_IN_FLIGHT: Final = 2
MAX_OPS: Final = 500
QUICK_TASK_TURNS: Final = 4
"""Turns of the loop from an answer to the next op of its run, where a task in between waits for nothing."""
SECOND_REQUEST_OPS: Final = 32
ENOUGH_BYTES: Final = MAX_REQUEST_BYTES // 4
"""No further op goes into a request that has this many; a single op may be as large as a commit, MAX_COMMIT_BYTES."""


class CommitSource(Protocol):
    """A run, as the pipe sees it; tests bring their own."""

    def take_op(self) -> bytes | None:
        """What there is to write now, encoded; None if nothing."""

    def answered(self, answer: CommitAnswer) -> None:
        """The answer to the op taken last."""


class CommitPipe:
    """Carries the ops of many sources to the server, `MAX_IN_FLIGHT` requests at a time."""

    def __init__(self, commit: Callable[[Sequence[bytes]], Awaitable[Committed]]) -> None:
        self._commit = commit
        self._waiting: dict[CommitSource, None] = {}
        self._in_flight = 0
        self._under_way = 0
        self._flush_due = False
        self._background = BackgroundTasks("commit pipe")
        self.seconds = Durations()
        """What commits took until they were answered."""
        self.committed = 0
        self.failures = 0
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()

    @property
    def queued(self) -> int:
        """How many sources wait for the next request."""
        return len(self._waiting)

    @property
    def under_way(self) -> int:
        """How many ops wait for their answer."""
        return self._under_way

    def put(self, source: CommitSource) -> None:
        """The source, whose earlier op has been answered, may have something to say."""
        self._waiting[source] = None
        self._flush_soon()

    async def drop(self) -> None:
        """Forget everything; ops under way stay unanswered."""
        self._waiting.clear()
        await self._background.close()

    def _flush_soon(self, turns: int = 1) -> None:
        """Not at once: other callbacks of this turn of the loop may have more for the same request, and code must not be stepped inside a task."""
        if self._waiting and self._may_send() and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush, turns - 1, context=self._context)

    def _flush(self, turns: int) -> None:
        if turns:
            self._loop.call_soon(self._flush, turns - 1, context=self._context)
            return
        self._flush_due = False
        while self._may_send() and (batch := self._take()):
            self._in_flight += 1
            self._under_way += len(batch)
            self._background.start(self._carry(batch))

    def _may_send(self) -> bool:
        """A second request is worth its cost where many wait for many; a few are better off together in the next."""
        return self._in_flight == 0 or (self._in_flight < MAX_IN_FLIGHT and min(len(self._waiting), self._under_way) >= SECOND_REQUEST_OPS)

    def _take(self) -> list[tuple[CommitSource, bytes]]:
        batch: list[tuple[CommitSource, bytes]] = []
        size = 0
        while self._waiting and len(batch) < MAX_OPS and size < ENOUGH_BYTES:
            for source in list(islice(self._waiting, MAX_OPS - len(batch))):
                del self._waiting[source]
                op = source.take_op()
                if op is not None:
                    batch.append((source, op))
                    size += len(op) + _weight_of_children(op)
                    if size >= ENOUGH_BYTES:
                        break
        return batch

    async def _carry(self, batch: list[tuple[CommitSource, bytes]]) -> None:
        try:
            await self._deliver(batch)
        finally:
            self._in_flight -= 1
            self._under_way -= len(batch)
            # Those who wait go together with those that have just been answered, whose next task may end as it begins.
            self._flush_soon(turns=QUICK_TASK_TURNS)

    async def _deliver(self, batch: list[tuple[CommitSource, bytes]]) -> None:
        """Until there are answers: a lost one is no reason to lose a run."""
        failures, started_at = 0, perf_counter()
        while True:
            try:
                answers = (await self._commit([op for _, op in batch])).answers
                break
            except ServerUnreachable as error:
                failures += 1
                log.warning("commit unanswered", extra={"ops": len(batch), "failures": failures, "error": error})
            except ApiError as error:
                if _about_content(error):
                    self.failures += 1
                    await self._refused(batch, error)
                    return
                failures += 1
                log.warning("commit refused", extra={"ops": len(batch), "failures": failures, "error": error})
            except Exception as error:  # a turn of the pipe's loop: runs must not hang because of our bug, and may go on elsewhere
                failures += 1
                log.exception("commit failed", extra={"ops": len(batch), "failures": failures}, exc_info=shown(error))
            self.failures += 1
            await asyncio.sleep(backoff_seconds(failures, random.random()))  # noqa: S311  jitter, not a secret
        self.seconds.observe(perf_counter() - started_at)
        self.committed += len(batch)
        for (source, _), answer in zip(batch, answers, strict=True):
            source.answered(answer)

    async def _refused(self, batch: list[tuple[CommitSource, bytes]], error: ApiError) -> None:
        """One op that the server does not take must not hold up the others: halve until it stands alone."""
        if len(batch) == 1:
            batch[0][0].answered(CommitAnswer(outcome=CommitOutcome.REFUSED, detail=str(error)))
            return
        middle = len(batch) // 2
        await self._deliver(batch[:middle])
        await self._deliver(batch[middle:])


def _weight_of_children(op: bytes) -> int:
    """In bytes, so that a request which has enough of one thing gets no more of another: half of a request's children are enough."""
    if b'"children":[' not in op:
        return 0
    return op.count(b'"workflow":') * (ENOUGH_BYTES // (MAX_CHILDREN // 2))  # no text has this: its quotes are escaped


def _about_content(error: ApiError) -> bool:
    return error.status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)

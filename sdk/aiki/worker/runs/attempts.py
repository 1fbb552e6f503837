"""The tasks of one run that the execution has given out: ready, waiting for their delay, or running."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from heapq import heappop, heappush
from typing import Final

from aiki.errors import PayloadError, TaskTimeout
from aiki.execution.execution import Execution
from aiki.execution.outcome import TaskAttempt
from aiki.protocol import IN_PLACE_SECONDS, Micros
from aiki.values.duration import MICROS_PER_SECOND
from aiki.worker.metrics.attempts import CANCELLED, FAILED, LOST, TIMED_OUT
from aiki.worker.tasks.runner import TaskRunner, Work
from aiki.worker.tasks.threads import NotBegun

log = logging.getLogger("aiki.worker")

IN_PLACE: Final = round(IN_PLACE_SECONDS * MICROS_PER_SECOND)


class TaskAttempts:
    """`ended` is called when an attempt has ended and the execution was told."""

    __slots__ = (
        "_broken",
        "_dues",
        "_ended",
        "_execution",
        "_later",
        "_now",
        "_random",
        "_run_id",
        "_running",
        "_tasks",
        "_workflow",
        "ready",
    )

    def __init__(
        self,
        run_id: str,
        execution: Execution,
        *,
        workflow: str,
        tasks: TaskRunner,
        now: Callable[[], Micros],
        random: Callable[[], float],
        ended: Callable[[], None],
    ) -> None:
        self.ready: dict[int, TaskAttempt] = {}
        self._run_id = run_id
        self._execution = execution
        self._workflow = workflow
        self._tasks = tasks
        self._now = now
        self._random = random
        self._ended = ended
        self._later: dict[int, TaskAttempt] = {}
        self._dues: list[tuple[Micros, int]] = []  # with a call of each in `_later`, and some that are no more there
        self._broken: Exception | None = None
        self._running: dict[int, Work] = {}

    @property
    def running(self) -> bool:
        """Whether any attempt is under way."""
        return bool(self._running)

    def add(self, attempts: Iterable[TaskAttempt], *, at_once: bool = False) -> None:
        """Given out by the execution; `at_once` leaves out the delays before them."""
        for attempt in attempts:
            if attempt.not_before is None or at_once:
                self.ready[attempt.call] = attempt
            else:
                self._later[attempt.call] = attempt
                heappush(self._dues, (attempt.not_before, attempt.call))

    def start(self) -> None:
        """Start what is ready."""
        ready, self.ready = self.ready, {}
        for attempt in ready.values():
            self._running[attempt.call] = self._tasks.start(self._run_id, attempt, self._end)

    def advance(self, now: Micros) -> None:
        """What has waited for its delay is ready; what the code gave up is cancelled. Raises what kept an end from being told."""
        if self._broken is not None:
            raise self._broken
        for call in self._execution.cancelled_tasks():
            self._give_up(call)
        while (due := self.next_due()) is not None and due <= now:
            _, call = heappop(self._dues)
            self.ready[call] = replace(self._later.pop(call), not_before=None)

    @property
    def active(self) -> bool:
        """Whether an attempt runs, or may start."""
        return bool(self._running or self.ready)

    def soon(self, now: Micros, within: Micros = IN_PLACE) -> bool:
        """Whether an attempt starts by itself within so many microseconds."""
        due = self.next_due()
        return due is not None and due <= now + within

    def next_due(self) -> Micros | None:
        """When the first delay ends."""
        while self._dues:
            due, call = self._dues[0]
            if call in self._later and self._later[call].not_before == due:
                return due
            heappop(self._dues)
        return None

    def hand_back(self) -> None:
        """Hand back to the execution what has not been started."""
        for call in (*self.ready, *self._later):
            self._execution.task_abandoned(call)
        self.ready.clear()
        self._later.clear()

    def hand_back_running(self) -> None:
        """Cancel what runs, as if it had never been started."""
        for call in self._cancel():
            self._execution.task_abandoned(call)

    def close(self) -> None:
        """Cancel what runs; nothing is started or told any more."""
        self._cancel()
        self.ready.clear()
        self._later.clear()

    def _cancel(self) -> list[int]:
        """Cancel what runs; the calls it was for."""
        running, self._running = self._running, {}
        for work in running.values():
            work.cancel()
            self._count(work, LOST)
        return list(running)

    def _give_up(self, call: int) -> None:
        work = self._running.pop(call, None)
        if work is not None:
            work.cancel()
            self._count(work, CANCELLED)
        self.ready.pop(call, None)
        self._later.pop(call, None)

    def _end(self, attempt: TaskAttempt, result: object, error: BaseException | None) -> None:
        work = self._running.pop(attempt.call, None)
        if work is None:
            return
        try:
            self._tell(attempt, work, result, error)
        except Exception as broken:  # noqa: BLE001  kept for `advance`: a turn of this run's loop, which can stop the run
            self._broken = broken
        for call in self._execution.cancelled_tasks():
            self._give_up(call)
        self._ended()

    def _tell(self, attempt: TaskAttempt, work: Work, result: object, error: BaseException | None) -> None:
        if isinstance(error, NotBegun):
            self._execution.task_abandoned(attempt.call)
            return
        if error is None:
            if self._execution.task_done(attempt.call, result, self._now()):
                self._tasks.figures.succeeded(self._workflow, attempt.task.name, work.started_at)
            else:
                self._count(work, FAILED, PayloadError.__name__)
            return
        kind = type(error).__qualname__
        timed_out = isinstance(error, TaskTimeout)
        self._count(work, TIMED_OUT if timed_out else FAILED, "" if timed_out else kind)
        # Not its label: that shows arguments, and a log is no place for payloads (I46).
        what = {
            "run_id": self._run_id,
            "task": attempt.task.name,
            "key": attempt.key,
            "attempt": attempt.attempt,
            "error": kind,
        }
        log.info("task failed", extra=what)
        self._execution.task_failed(attempt.call, error, self._now(), self._random())

    def _count(self, work: Work, outcome: str, error: str = "") -> None:
        self._tasks.figures.ended(self._workflow, work.attempt.task.name, work.started_at, outcome=outcome, error=error)

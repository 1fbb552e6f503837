"""Runs one attempt of a task: `async def` in the worker's loop, `def` in a thread, with a timeout and a context of its own.

User code may raise anything; whatever it is, it ends this attempt and nothing else. A timeout counts from where the attempt was given out, so the
wait for a thread is in it. What goes on after its timeout or its cancellation, in a thread or because it swallows the cancellation, is not heard any more.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextvars import Context, copy_context
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any, Final

from aiki.context.task_context import TaskContext, current_task
from aiki.definitions.task import __file__ as definitions
from aiki.errors import TaskTimeout
from aiki.execution.outcome import TaskAttempt
from aiki.worker.metrics.attempts import AttemptFigures
from aiki.worker.tasks.forked import end_if_forked
from aiki.worker.tasks.threads import NotBegun, Threads

log = logging.getLogger("aiki.worker")

CANCEL_SECONDS: Final = 5.0

Ended = Callable[[TaskAttempt, object, BaseException | None], None]
"""(attempt, result, error): called once, from a callback of the worker's loop, unless the attempt was cancelled."""


class Work:
    """An attempt under way."""

    __slots__ = ("_task", "attempt", "cancelled", "overdue", "started_at")

    def __init__(self, attempt: TaskAttempt) -> None:
        self.attempt = attempt
        self.started_at = perf_counter()
        self.cancelled = False
        self.overdue: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None

    def begin(self, task: asyncio.Task[Any]) -> None:
        """Remember the asyncio task that carries the attempt."""
        self._task = task

    def cancel(self) -> None:
        """Cancel it; its end is not reported."""
        self.cancelled = True
        if self._task is not None:
            self._task.cancel()


class TaskRunner:
    """All attempts under way in a worker. `may_begin` is asked where a function is called: it may have waited for a thread, or the process was frozen."""

    def __init__(self, *, threads: Threads, may_begin: Callable[[], bool]) -> None:
        self._may_begin: Final = may_begin
        self._context: Final = copy_context()  # tasks inherit the worker's context, never that of another task
        self._loop: Final = asyncio.get_running_loop()
        self._tasks: Final[set[asyncio.Task[Any]]] = set()
        self._threads: Final = threads
        self._pid: Final = os.getpid()
        self.figures: Final = AttemptFigures()

    @property
    def running(self) -> int:
        """How many attempts are under way, those with them that are not heard any more."""
        return len(self._tasks)

    def start(self, run_id: str, attempt: TaskAttempt, ended: Ended) -> Work:
        """Begin an attempt."""
        work = Work(attempt)
        context = self._context.copy()
        context.run(current_task.set, TaskContext(run_id, attempt.call, attempt.attempt, attempt.key, attempt.label))
        task = self._loop.create_task(self._carry(attempt, work, context), context=context)
        work.begin(task)
        self._tasks.add(task)
        # In the worker's own context: what follows from this task's end is no part of it.
        task.add_done_callback(partial(self._ended, attempt, work, ended), context=self._context)
        if attempt.task.timeout is not None and attempt.task.is_async:
            patience_seconds = attempt.task.timeout + CANCEL_SECONDS
            work.overdue = self._loop.call_later(patience_seconds, self._give_up, attempt, work, ended, context=self._context)
        return work

    async def close(self, seconds: float = CANCEL_SECONDS) -> None:
        """Cancel what is under way, wait for it so long, and let go of the threads: those still busy end with their task."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            log.warning("task ignores its cancellation", extra={"task": task.get_name()})
        self._threads.close()

    def _ended(self, attempt: TaskAttempt, work: Work, ended: Ended, task: asyncio.Task[tuple[object, BaseException | None]]) -> None:
        self._tasks.discard(task)
        if work.overdue is not None:
            work.overdue.cancel()
        if not work.cancelled and not task.cancelled():
            ended(attempt, *task.result())

    def _give_up(self, attempt: TaskAttempt, work: Work, ended: Ended) -> None:
        """The function was cancelled by its timeout, has swallowed that, and goes on: unheard from now on, as a thread would."""
        if not work.cancelled:
            log.warning("task ignores its timeout", extra={"task": attempt.task.name, "key": attempt.key})
            work.cancel()
            ended(attempt, None, _timed_out(attempt))

    async def _carry(self, attempt: TaskAttempt, work: Work, context: Context) -> tuple[object, BaseException | None]:
        """Whatever user code raises is a value here.

        asyncio would let a SystemExit or KeyboardInterrupt end the worker, and takes a CancelledError for our own.
        """
        try:
            result = await (self._in_loop(attempt) if attempt.task.is_async else self._in_thread(attempt, context))
            end_if_forked(self._pid, None)
            return result, None
        except BaseException as error:
            end_if_forked(self._pid, error)
            if work.cancelled:
                raise
            return None, error.with_traceback(_from_user_code(error.__traceback__))

    async def _in_loop(self, attempt: TaskAttempt) -> object:
        if not self._may_begin():
            raise NotBegun
        if attempt.task.timeout is None:
            return await attempt.task.attempt(attempt.args, attempt.kwargs)
        deadline = asyncio.timeout(attempt.task.timeout)
        try:
            async with deadline:
                return await attempt.task.attempt(attempt.args, attempt.kwargs)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise _timed_out(attempt) from error

    async def _in_thread(self, attempt: TaskAttempt, context: Context) -> object:
        """The wait for a thread counts as well: whoever gave a timeout wants an answer by then."""
        called = partial(context.copy().run, _call, attempt, self._may_begin, self._pid)
        placed = False
        try:
            async with asyncio.timeout(attempt.task.timeout):
                await self._threads.place()
                placed = True
                result, error = await self._threads.run(attempt.task.name, called)
        except TimeoutError as expired:  # of the timeout: what the function raised is a value
            raise (_timed_out(attempt) if placed else _no_thread(attempt)) from expired
        if error is not None:
            raise error
        return result


def _call(attempt: TaskAttempt, may_begin: Callable[[], bool], pid: int) -> tuple[object, BaseException | None]:
    """In the thread. The error is returned, not raised: a future does not take a StopIteration."""
    if not may_begin():
        return None, NotBegun()
    try:
        result = attempt.task.attempt(attempt.args, attempt.kwargs)
    except BaseException as error:  # noqa: BLE001  user code
        end_if_forked(pid, error)
        return None, error
    end_if_forked(pid, None)
    return result, None


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames of this module and of a task's definition: the reader of the stack did not write them."""
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, definitions):
        trace = trace.tb_next
    return trace


def _timed_out(attempt: TaskAttempt) -> TaskTimeout:
    return TaskTimeout(f"{attempt.label} took longer than its timeout of {attempt.task.timeout} s")


def _no_thread(attempt: TaskAttempt) -> TaskTimeout:
    return TaskTimeout(
        f"{attempt.label} waited {attempt.task.timeout} s, which is its timeout, for a thread: other `def` tasks of this worker hold them all. "
        "Give the tasks that hang a timeout of their own in what they call, or make tasks that wait `async def`"
    )

"""Runs one attempt of a task: `async def` in the worker's loop, `def` in a thread, with a timeout and a context of its own.

User code may raise anything; whatever it is, it ends this attempt and nothing else. A thread cannot be interrupted: what times out or is
cancelled there goes on to its end unheard, and keeps its place among the threads until then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import Any, Final

from aiki.context import TaskContext, current_task
from aiki.errors import TaskTimeout
from aiki.execution.outcome import TaskAttempt

log = logging.getLogger("aiki.worker")

CANCEL_SECONDS: Final = 5.0

Ended = Callable[[TaskAttempt, object, BaseException | None], None]
"""(attempt, result, error): called once, from a callback of the worker's loop, unless the attempt was cancelled."""


class NotBegun(Exception):
    """The lease was in doubt when the function was about to be called: it was not."""


class Work:
    """An attempt under way."""

    __slots__ = ("_task", "cancelled")

    def __init__(self) -> None:
        self.cancelled = False
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

    def __init__(self, *, threads: int, may_begin: Callable[[], bool]) -> None:
        self._may_begin: Final = may_begin
        self._context: Final = copy_context()  # tasks inherit the worker's context, never that of another task
        self._loop: Final = asyncio.get_running_loop()
        self._tasks: Final[set[asyncio.Task[Any]]] = set()
        self._threads: Final = ThreadPoolExecutor(threads, thread_name_prefix="aiki-task")
        self._free_threads: Final = asyncio.Semaphore(threads)
        self.busy_threads = 0

    def start(self, run_id: str, attempt: TaskAttempt, ended: Ended) -> Work:
        """Begin an attempt."""
        work = Work()
        context = self._context.copy()
        context.run(current_task.set, TaskContext(run_id, attempt.call, attempt.attempt, attempt.key, attempt.label))
        task = self._loop.create_task(self._carry(attempt, work, context), context=context)
        work.begin(task)
        self._tasks.add(task)
        # In the worker's own context: what follows from this task's end is no part of it.
        task.add_done_callback(partial(self._ended, attempt, work, ended), context=self._context)
        return work

    async def close(self) -> None:
        """Cancel what is under way, and let go of the threads: those still busy end with their task."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CANCEL_SECONDS)
        for task in self._tasks:
            log.warning("task ignores its cancellation", extra={"task": task.get_name()})
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ended(self, attempt: TaskAttempt, work: Work, ended: Ended, task: asyncio.Task[tuple[object, BaseException | None]]) -> None:
        self._tasks.discard(task)
        if not work.cancelled and not task.cancelled():
            ended(attempt, *task.result())

    async def _carry(self, attempt: TaskAttempt, work: Work, context: Context) -> tuple[object, BaseException | None]:
        """Whatever user code raises is a value here.

        asyncio would let a SystemExit or KeyboardInterrupt end the worker, and takes a CancelledError for our own.
        """
        try:
            return await (self._in_loop(attempt) if attempt.task.is_async else self._in_thread(attempt, context)), None
        except BaseException as error:
            if work.cancelled:
                raise
            return None, error.with_traceback(_from_user_code(error.__traceback__))

    async def _in_loop(self, attempt: TaskAttempt) -> object:
        if not self._may_begin():
            raise NotBegun
        if attempt.task.timeout is None:
            return await attempt.task.fn(*attempt.args, **attempt.kwargs)
        deadline = asyncio.timeout(attempt.task.timeout)
        try:
            async with deadline:
                return await attempt.task.fn(*attempt.args, **attempt.kwargs)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            raise _timed_out(attempt) from error

    async def _in_thread(self, attempt: TaskAttempt, context: Context) -> object:
        await self._free_threads.acquire()
        self.busy_threads += 1
        future = self._threads.submit(context.copy().run, _call, attempt, self._may_begin)
        # The thread is free when the function has returned, not when we have stopped waiting for it.
        future.add_done_callback(self._thread_ended)
        result, error = await self._outcome(attempt, future)
        if error is not None:
            raise error
        return result

    def _thread_ended(self, _: Future[Any]) -> None:
        """In the thread, or where the future was cancelled."""
        try:
            self._loop.call_soon_threadsafe(self._free_thread)
        except RuntimeError:
            log.debug("thread of a task ended after its loop")

    def _free_thread(self) -> None:
        self.busy_threads -= 1
        self._free_threads.release()

    async def _outcome(
        self, attempt: TaskAttempt, future: Future[tuple[object, BaseException | None]]
    ) -> tuple[object, BaseException | None]:
        deadline = asyncio.timeout(attempt.task.timeout)
        try:
            async with deadline:
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            log.warning("thread goes on after its task timed out", extra={"task": attempt.task.name, "key": attempt.key})
            raise _timed_out(attempt) from error


def _call(attempt: TaskAttempt, may_begin: Callable[[], bool]) -> tuple[object, BaseException | None]:
    """In the thread. The error is returned, not raised: a future does not take a StopIteration."""
    if not may_begin():
        return None, NotBegun()
    try:
        return attempt.task.fn(*attempt.args, **attempt.kwargs), None
    except BaseException as error:  # noqa: BLE001  user code
        return None, error


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """Without the frames of this module: the reader of the stack did not write them."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace


def _timed_out(attempt: TaskAttempt) -> TaskTimeout:
    return TaskTimeout(f"{attempt.label} took longer than its timeout of {attempt.task.timeout} s")

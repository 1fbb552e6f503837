"""The event loop that workflow code runs on: a queue of ready callbacks and nothing else.

"The code has settled" is "the queue is empty". Timers are durable calls, `time()` is that of the last record, and everything
that would touch the outside world is an error that says "do this in a task". It is stepped from a callback of the outer loop.
"""

# ruff: noqa: SLF001  setting the running loop, handles' own flags: asyncio has no public names for what another loop needs

from __future__ import annotations

import asyncio
import sys
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextvars import Context
from typing import Any, Final, Protocol

from aiki.context.control_signals import BlockedLoop, Suspended
from aiki.errors import NotAllowedInWorkflow
from aiki.execution.loop.places import MAKERS, PlacedFuture, Places, refuse_unplaced
from aiki.execution.loop.unawaited import UnawaitedListener, listen, stop_listening
from aiki.values.names import calling_place


class TimerKeeper(Protocol):
    """What makes a loop's timers durable."""

    def timer(self, handle: DurableTimer, delay: float) -> None: ...
    def cancel_timer(self, handle: DurableTimer) -> None: ...
    def elapsed(self) -> float: ...
    def on_unhandled_error(self, message: str, error: BaseException | None) -> None: ...


class CodeGuard(Protocol):
    """Watches code that settles; `aiki.worker.tasks.blocking_guard` has the one that a worker uses."""

    def enter(self) -> None: ...
    def leave(self) -> str | None: ...


class Unguarded:
    """For tests: code may take as long as it likes."""

    def enter(self) -> None:
        """Nobody watches."""

    def leave(self) -> str | None:
        """Nobody interrupts."""
        return None


class DurableTimer(asyncio.TimerHandle):
    """The handle of a `call_later`; `call` is the number of its reservation."""

    __slots__ = ("call",)

    call: int | None


class ClosedLoop(asyncio.AbstractEventLoop):
    """All that a loop may be asked, refused."""


def _forbidden(name: str) -> Callable[..., Any]:
    def refuse(_loop: ClosedLoop, *_args: Any, **_kwargs: Any) -> Any:
        raise NotAllowedInWorkflow(
            f"{name}() in workflow code at {calling_place()}: it is replayed and must not touch the outside world; do this in a task"
        )

    return refuse


for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_"):
        setattr(ClosedLoop, _name, _forbidden(_name))


class WorkflowLoop(ClosedLoop, UnawaitedListener):
    """See the module."""

    def __init__(self, keeper: TimerKeeper, run_id: str = "") -> None:
        self.places: Final = Places(run_id)
        self._keeper: Final = keeper
        self._ready: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._prune_at = 64
        self._closed = False
        self._refused = False
        self.never_awaited: str | None = None
        listen(self)

    def run_until_idle(self, guard: CodeGuard) -> str | None:
        """Runs until nothing is ready. What the code raises stays in its futures and tasks; the answer is where it was interrupted, if it was."""
        self._refused = False
        outer = events._get_running_loop()
        hooks = sys.get_asyncgen_hooks()
        depth = sys.get_coroutine_origin_tracking_depth()
        events._set_running_loop(self)
        sys.set_asyncgen_hooks(firstiter=None, finalizer=self._finalize)
        sys.set_coroutine_origin_tracking_depth(1)
        try:
            return self._drain(guard)
        finally:
            sys.set_coroutine_origin_tracking_depth(depth)
            sys.set_asyncgen_hooks(*hooks)
            events._set_running_loop(outer)

    def _drain(self, guard: CodeGuard) -> str | None:
        """An interruption can come at any instruction until the guard was left, so leaving is tried until nothing comes between."""
        ready = self._ready
        try:
            guard.enter()
            try:
                while ready:
                    handle = ready.popleft()
                    if not handle._cancelled:
                        _run(handle)
            finally:
                interrupted = guard.leave()
        except BlockedLoop:
            interrupted = _leave(guard)
        return interrupted

    def discard(self) -> None:
        """Ends what is left of the code, in silence: it is thrown out of wherever it waits, and can call nothing any more."""
        self._closed = True
        outer = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for task in self._tasks:
                if not task.done():
                    _throw_out(task)
        finally:
            events._set_running_loop(outer)
            self._ready.clear()
            self._tasks.clear()
            stop_listening(self)

    def fire(self, handle: DurableTimer) -> None:
        """The timer's time has come."""
        handle.call = None
        self._ready.append(handle)

    def prune(self) -> None:
        """Lets go of tasks that are done; errors in them that nobody looked at are told now."""
        self._tasks = [task for task in self._tasks if not task.done()]
        self._prune_at = 2 * len(self._tasks) + 64

    # ---- what asyncio asks of a loop

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        handle = DurableTimer(self.time() + delay, callback, args, self, context)
        handle.call = None
        if delay <= 0:
            self._ready.append(handle)
        else:
            self._keeper.timer(handle, delay)
        return handle

    def call_at(self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_later(when - self.time(), callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, DurableTimer) and handle.call is not None:
            self._keeper.cancel_timer(handle)

    def time(self) -> float:
        return self._keeper.elapsed()

    def create_future(self) -> asyncio.Future[Any]:
        return PlacedFuture(self.places.of_future, self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Context | None = None, **options: Any) -> asyncio.Task[Any]:
        """A task; unlike asyncio's own, it also takes what `task.start` returns."""
        if self._closed:
            raise Suspended
        if isinstance(coro, asyncio.Future):
            coro = _wait_for(coro)
        try:
            task = self.places.task(coro, sys._getframe(1), {"loop": self, "name": name, "context": context, **options})
        except NotAllowedInWorkflow:
            self._refused = True
            raise
        self._tasks.append(task)
        if len(self._tasks) > self._prune_at:
            self.prune()
        return task

    def get_debug(self) -> bool:
        """Asyncio asks at each future and handle that is made."""
        maker = sys._getframe(1)
        if id(maker.f_code) not in MAKERS:
            refuse_unplaced(maker)
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def get_task_factory(self) -> None:
        return None

    def forgot(self, coroutine: Any) -> None:
        """A coroutine was never awaited; those of a call that was refused are no mistake of their own."""
        if self.never_awaited is None and not (self._closed or self._refused):
            self.never_awaited = _origin(coroutine)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self._keeper.on_unhandled_error(str(context.get("message", "")), context.get("exception"))

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        if not self._closed:
            self.create_task(generator.aclose())


def in_workflow_code() -> bool:
    """Whether the caller runs on a workflow loop."""
    return isinstance(events._get_running_loop(), WorkflowLoop)


def _leave(guard: CodeGuard) -> str | None:
    while True:
        try:
            return guard.leave()
        except BlockedLoop:
            continue


def _run(handle: asyncio.Handle) -> None:
    try:
        handle._run()
    except (SystemExit, KeyboardInterrupt):
        return  # asyncio keeps it in the task, too, and it must not end the worker


async def _wait_for(future: asyncio.Future[Any]) -> Any:
    return await future


def _throw_out(task: asyncio.Task[Any]) -> None:
    """Closes a coroutine even if it waits again on its way out, a few times."""
    coroutine: Any = task.get_coro()
    for _ in range(100):
        try:
            coroutine.throw(Suspended())
        except BaseException:  # noqa: BLE001  user code on its way out; there is nobody left to tell
            return


def _origin(coroutine: Any) -> str:
    origin = coroutine.cr_origin
    return f"{coroutine.__qualname__}() at {origin[0][0]}:{origin[0][1]}" if origin else f"{coroutine.__qualname__}()"

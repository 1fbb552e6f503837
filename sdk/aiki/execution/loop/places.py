"""Tasks and futures of workflow code have the same place in a set in every process, and what has none is refused.

asyncio keeps much in sets (`wait`, `as_completed`, `TaskGroup`, `all_tasks`), whose order is that of the hashes of what is in them. Python's
own hash of a task is its address in memory. Here it is made of the run's id and of a number: of a call its number in the history, of a
task its number among those that the code made. Runs differ by the id, because asyncio keeps the tasks of all loops in one set.
"""

# ruff: noqa: SLF001  asyncio has no public names for some of what is looked at

from __future__ import annotations

import asyncio
import sys
from asyncio import events, tasks
from collections.abc import Callable, Iterable
from types import CodeType, FrameType
from typing import Any, Final

from aiki.errors import NotAllowedInWorkflow
from aiki.values.names import calling_place


class PlacedTask(asyncio.Task[Any]):
    """A task of workflow code."""

    __slots__ = ("_place",)

    def __init__(self, coroutine: Any, place: int, **options: Any) -> None:
        self._place = place  # first: asyncio puts the task into a set
        super().__init__(coroutine, **options)

    def __hash__(self) -> int:
        return self._place


class PlacedFuture(asyncio.Future[Any]):
    """A future of workflow code; it gets its place when it is first put into a set: asyncio makes other numbers of them from version to version."""

    __slots__ = ("_find", "_place")

    def __init__(self, find: Callable[[], int], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._find = find
        self._place: int | None = None

    def __hash__(self) -> int:
        if self._place is None:
            self._place = self._find()
        return self._place


class Places:
    """Gives out places, for the loop of one run. Numbers of kinds are apart from each other."""

    __slots__ = ("_ahead", "_futures", "_inner", "_tasks", "base")

    def __init__(self, run_id: str) -> None:
        self.base: Final = int(run_id[-12:], 16) << 8 if run_id else 0
        self._tasks = 0
        self._inner = 0
        self._futures = 0
        self._ahead: dict[Any, PlacedTask] = {}

    def of_future(self) -> int:
        """For the next future."""
        self._futures += 1
        return self.base + (self._futures << 2)

    def of_call(self, number: int) -> int:
        """For what a call gave to the code."""
        return self.base + (number << 2) + 1

    def task(self, coroutine: Any, maker: FrameType, options: dict[str, Any]) -> PlacedTask:
        """The task for a coroutine; `maker` is the frame that asked for it."""
        if id(maker.f_code) in _ENSURE:
            beyond = _beyond(maker)
            if id(beyond.f_code) in _AS_COMPLETED:
                return self._completed(coroutine, beyond, options)
            if beyond.f_code is _WAIT_FOR:  # before Python 3.12 it makes a task of its own, which is counted apart
                self._inner += 1
                return PlacedTask(coroutine, self.base + (self._inner << 2) + 3, **options)
        self._tasks += 1
        return PlacedTask(coroutine, self.base + (self._tasks << 2) + 2, **options)

    def _completed(self, coroutine: Any, frame: FrameType, options: dict[str, Any]) -> PlacedTask:
        """`as_completed` goes through a set of coroutines: the first makes the tasks of all, in the order in which they were passed."""
        if coroutine not in self._ahead:
            given = next((frame.f_locals[name] for name in _PASSED if name in frame.f_locals), None)
            for one in dict.fromkeys(given) if isinstance(given, (list, tuple)) else ():
                if asyncio.iscoroutine(one):
                    self._tasks += 1
                    self._ahead[one] = PlacedTask(one, self.base + (self._tasks << 2) + 2, **options)
        task = self._ahead.pop(coroutine, None)
        if task is None:
            raise NotAllowedInWorkflow(
                f"asyncio.as_completed(…) in workflow code at {calling_place()} would begin what it is given in the order of memory "
                "addresses: pass a list of coroutines, of tasks, or of what task.start(…) returns"
            )
        return task


def refuse_unplaced(frame: FrameType) -> None:
    """Raises where the code makes a future or a task by its class: it would have no place. `frame` is the one that made it."""
    if id(frame.f_code) in MAKERS or str(frame.f_globals.get("__name__", "")).startswith(("asyncio.", "aiki.")):
        return
    raise NotAllowedInWorkflow(
        f"asyncio.Future(…) or asyncio.Task(…) in workflow code at {calling_place()}: its place in a set would be that of its memory address; "
        "write asyncio.get_running_loop().create_future(), or asyncio.create_task(…)"
    )


MAKERS: Final = {id(made.__init__.__code__) for made in (asyncio.Handle, PlacedTask, PlacedFuture)}
"""Who may make futures and handles: the ids of their codes, which are never let go of. A code's own hash goes through all that is in it."""


def _code_of(function: Any) -> CodeType:
    return function.__code__  # type: ignore[no-any-return]  # of a Python function it is one


def _named(names: Iterable[str], *, of: Any) -> frozenset[int]:
    return frozenset(id(_code_of(getattr(of, name))) for name in names if hasattr(of, name))


_ENSURE: Final = _named(("ensure_future", "_ensure_future"), of=tasks)
_ITERATOR: Final = getattr(tasks, "_AsCompletedIterator", None)  # from Python 3.13 on
_AS_COMPLETED: Final = _named(["as_completed"], of=tasks) | (_named(["__init__"], of=_ITERATOR) if _ITERATOR is not None else frozenset())
_WAIT_FOR: Final = _code_of(asyncio.wait_for) if sys.version_info < (3, 12) else None
_PASSED: Final = ("fs", "aws")


def _beyond(frame: FrameType) -> FrameType:
    while frame.f_back is not None and (id(frame.f_code) in _ENSURE or frame.f_code.co_name == "<setcomp>"):
        frame = frame.f_back
    return frame


class _AllTasks:
    """Stands in asyncio's register of tasks: there `all_tasks` asks it for its loop, and workflow code hears what to write."""

    def get_loop(self) -> None:
        """Of no loop; but an error in workflow code."""
        if _running_places() is not None:
            raise NotAllowedInWorkflow(
                f"asyncio.all_tasks() in workflow code at {calling_place()}: their order is not the same in each process; "
                "keep the tasks that you make in a list"
            )

    def done(self) -> bool:
        """It never ran."""
        return True


def _running_places() -> Places | None:
    return getattr(events._get_running_loop(), "places", None)


def _gathered(self: Any) -> int:
    """What `gather` returns is made by its class, not by the loop."""
    place: int | None = getattr(self, "_place", None)
    if place is None:
        places: Places | None = getattr(self.get_loop(), "places", None)
        self._place = place = object.__hash__(self) if places is None else places.of_future()
    return place


_ALL_TASKS: Final = _AllTasks()
asyncio._register_task(_ALL_TASKS)  # type: ignore[arg-type]  # asyncio asks no more of a task than it has
tasks._GatheringFuture.__hash__ = _gathered  # type: ignore[attr-defined]  # of an asyncio loop it is Python's own

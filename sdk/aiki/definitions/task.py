"""Tasks: the steps of a workflow that touch the outside world, retried and remembered.

A definition is the function and its policy. `start` reserves the call in a run; calling it directly is calling the function,
which is for unit tests: in workflow code it is an error, because it would run again on every replay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, overload

from aiki.context.run import Run
from aiki.errors import NotAllowedInWorkflow
from aiki.execution.loop.loop import in_workflow_code
from aiki.execution.loop.pending import Pending
from aiki.values.codec import Codec
from aiki.values.duration import Delay, seconds
from aiki.values.names import calling_place, checked_name, stable_hash
from aiki.values.retry import Retry
from aiki.values.signature import Parameters, type_hints
from aiki.values.twice import Origin, origin_of, refuse_second

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C")
X = TypeVar("X")

X_contra = TypeVar("X_contra", contravariant=True)


class OfOne(Protocol[X_contra, R]):
    """A task that one argument is enough for: for `map`, so that its items are typed."""

    def start(self, run: Run, item: X_contra, /) -> Pending[R]: ...


DEFAULT_RETRY: Final = Retry.exponential()


class TaskDefinition(Generic[P, R, C]):
    """A task: `R` is what it returns, `C` what the plain call of its function does (a coroutine of R, or R)."""

    def __init__(self, fn: Callable[P, C], *, name: str | None, retry: Retry, timeout: Delay | None) -> None:
        self.name: Final = checked_name("task", name or fn.__name__)
        self._hash: Final = stable_hash("task", self.name)
        self.fn: Final = fn
        self.retry: Final = retry
        self.timeout: Final = None if timeout is None else seconds(timeout)
        self.is_async: Final = iscoroutinefunction(fn)
        self.origin: Final = origin_of(fn)
        self.place: Final = self.origin.place
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(
                f"task {self.name} ({self.place}) has a timeout of {self.timeout} s: it must be above 0; without one leave it out"
            )
        self.parameters: Final = Parameters(fn)
        self._result: Codec[R] | None = None
        self.__doc__ = fn.__doc__
        self.__name__ = self.name
        self.__qualname__ = fn.__qualname__
        self.__module__ = fn.__module__
        self.__wrapped__ = fn
        refuse_second(self.called, self.origin, self._origin_of_another)

    def start(self, run: Run, /, *args: P.args, **kwargs: P.kwargs) -> Pending[R]:
        """Reserves the call now; the answer is awaited for the result. `TaskFailed` when its retries are used up."""
        return run.calls.task(self, self.parameters.bind(args, kwargs))

    async def map(self: OfOne[X, R], run: Run, items: Iterable[X], *, limit: int = 50) -> list[R]:
        """The results for all items, in their order; at most `limit` calls are under way. The first failure cancels the rest."""
        if limit < 1:
            raise ValueError("limit is at least 1")
        pending = list(enumerate(items))
        results: list[Any] = [None] * len(pending)
        waiting = iter(pending)

        async def work() -> None:
            for index, item in waiting:
                results[index] = await self.start(run, item)

        workers = [asyncio.ensure_future(work()) for _ in range(min(limit, len(pending)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return results

    @property
    def result(self) -> Codec[R]:
        """Writes and reads what the task returns."""
        if self._result is None:
            self._result = Codec(type_hints(self.fn).get("return", Any))
        return self._result

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        if in_workflow_code():
            raise NotAllowedInWorkflow(
                f"{self.name}(…) is called in workflow code at {calling_place()}, so it would run on every replay: await {self.name}.start(run, …)"
            )
        return self.fn(*args, **kwargs)

    def attempt(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function does with these arguments, and with defaults of its own: the attempt before may have changed them."""
        args, kwargs = self.parameters.with_fresh_defaults(args, kwargs)
        return self.fn(*args, **kwargs)

    @property
    def called(self) -> str:
        """What messages call it."""
        return f"task {self.name}"

    def _origin_of_another(self, value: object) -> Origin | None:
        return value.origin if isinstance(value, TaskDefinition) and value is not self and value.name == self.name else None

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"<task {self.name}>"


class TaskDecorator(Protocol):
    """What `task(...)` with arguments returns."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> TaskDefinition[P, R, Coroutine[Any, Any, R]]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> TaskDefinition[P, R, R]: ...


@overload
def task(fn: Callable[P, Coroutine[Any, Any, R]], /) -> TaskDefinition[P, R, Coroutine[Any, Any, R]]: ...
@overload
def task(fn: Callable[P, R], /) -> TaskDefinition[P, R, R]: ...
@overload
def task(*, name: str | None = None, retry: Retry = DEFAULT_RETRY, timeout: float | timedelta | None = None) -> TaskDecorator: ...
def task(
    fn: Callable[..., Any] | None = None, /, *, name: str | None = None, retry: Retry = DEFAULT_RETRY, timeout: Delay | None = None
) -> Any:
    """Makes a task of a function, `async def` or `def` (the worker runs those in threads). `timeout` is seconds for one attempt."""

    def define(function: Callable[..., Any]) -> TaskDefinition[..., Any, Any]:
        return TaskDefinition(function, name=name, retry=retry, timeout=timeout)

    return define if fn is None else define(fn)

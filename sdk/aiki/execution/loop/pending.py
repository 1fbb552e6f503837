"""What workflow code awaits: a future that tells its call when the code cancels it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from aiki.execution.loop.places import MAKERS

if TYPE_CHECKING:
    from aiki.execution.calls.call import FutureCall
    from aiki.execution.loop.loop import WorkflowLoop

T = TypeVar("T")

if TYPE_CHECKING:

    class _Awaited(asyncio.Future[T], Coroutine[Any, Any, T]):
        """A future that type checkers let into `create_task`, as the workflow loop does."""

        def send(self, value: Any, /) -> Any: ...
        def throw(self, *args: Any) -> Any: ...
        def close(self) -> None: ...
else:
    _Awaited = asyncio.Future


class Pending(_Awaited[T]):
    """The result of a call, to come. A loser of a race is cancelled like any future; it is then not recorded."""

    __slots__ = ("_places", "call")

    def __init__(self, call: FutureCall, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        self._places = loop.places
        self.call = call

    def __hash__(self) -> int:
        """The same in every process: sets of such go through them in the same order."""
        return self._places.of_call(self.call.number)

    def cancel(self, msg: Any = None) -> bool:
        """Gives the call up."""
        if not super().cancel(msg):
            return False
        self.call.cancel()
        return True


MAKERS.add(id(Pending.__init__.__code__))


class Child(Pending[T]):
    """A child workflow that was started. Await it for its result, or leave it to itself; `cancel` gives it up, and so it is cancelled."""

    __slots__ = ()

    @property
    def id(self) -> str:
        """The child's run id."""
        return self.call.child_id

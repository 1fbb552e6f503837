"""`Run`: what workflow code has in its hand. Everything on it is the same on every replay.

Durations are seconds, a timedelta, or given by unit. What waits, waits durably: no worker is held meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, overload
from uuid import UUID

from aiki.context.log import RunLog
from aiki.context.received import Received, TimedOut
from aiki.context.saga import Saga
from aiki.context.state import State
from aiki.values.duration import Delay, instant, micros, since_epoch, spoken

if TYPE_CHECKING:
    from aiki.definitions.event import Event
    from aiki.execution.calls.calls import Calls
    from aiki.execution.loop.pending import Pending

T = TypeVar("T")


class First(NamedTuple):
    """The winner of a race: the name it was given, and its result."""

    name: str
    result: Any


class Run:
    """One run of a workflow. Made by the worker; a test gets one from `aiki.testing`."""

    def __init__(self, calls: Calls, *, log: RunLog, state: State) -> None:
        self.id: Final = calls.run_id
        self.calls: Final = calls
        self.log: Final = log
        self.state: Final = state
        self._uuids = 0
        self._randoms = 0

    @overload
    def wait(self, event: Event[T], *, timeout: None = None) -> Pending[T]: ...
    @overload
    def wait(self, event: Event[T], *, timeout: float | timedelta) -> Pending[Received[T] | TimedOut]: ...
    def wait(self, event: Event[Any], *, timeout: Delay | None = None) -> Pending[Any]:
        """The payload of the next such event. With a `timeout` it is `Received`, with the payload, or `TimedOut`.

        The answer is true if and only if the event came, whatever its payload:

            answer = await run.wait(approved, timeout=timedelta(days=3))
            if answer:
                return answer.payload

        A payload that does not fit the event pauses the run and is not taken: code that takes it goes on with it.
        """
        return self.calls.wait(event, None if timeout is None else micros(timeout))

    def sleep(self, duration: Delay = 0, /, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> Pending[None]:
        """Sleeps for a time, from the last record on."""
        length = micros(duration) + micros(timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))
        return self.calls.sleep(str(length), f"sleep({spoken(length)})", self.calls.now + length)

    def sleep_until(self, at: datetime, /) -> Pending[None]:
        """Sleeps until an instant, which must have a time zone."""
        if at.tzinfo is None:
            raise ValueError(f"sleep_until({at!r}): an instant needs a time zone, as run.now() has")
        due = since_epoch(at)
        return self.calls.sleep(f'{{"until":{due}}}', f"sleep_until({at.isoformat()})", due)

    def now(self) -> datetime:
        """The instant of the last record, in UTC."""
        return instant(self.calls.now)

    def uuid(self) -> UUID:
        """A UUID of version 4: the n-th of a run is always the same."""
        self._uuids += 1
        return UUID(bytes=self._drawn("uuid", self._uuids)[:16], version=4)

    def random(self) -> float:
        """A number in [0, 1): the n-th of a run is always the same."""
        self._randoms += 1
        return (int.from_bytes(self._drawn("random", self._randoms)[:8]) >> 11) / (1 << 53)

    async def first(self, **contestants: Awaitable[Any]) -> First:
        """Waits for the first to end, cancels the others, and says which it was. If it failed, its error is raised."""
        if not contestants:
            raise ValueError("first() needs at least one contestant: run.first(paid=…, expired=…)")
        racing = {name: asyncio.ensure_future(contestant) for name, contestant in contestants.items()}
        try:
            await asyncio.wait(racing.values(), return_when=asyncio.FIRST_COMPLETED)
            name, winner = next((name, future) for name, future in racing.items() if future.done())
        finally:
            await _give_up(list(racing.values()))
        return First(name, winner.result())

    def saga(self) -> Saga:
        """`async with run.saga() as saga`: what `saga.undo` was told is run, last first, if the block fails or is cancelled."""
        return Saga(self)

    def _drawn(self, stream: str, number: int) -> bytes:
        return sha256(f"{self.id}:{stream}:{number}".encode()).digest()


async def _give_up(futures: list[asyncio.Future[Any]]) -> None:
    losers = [future for future in futures if not future.done()]
    for loser in losers:
        loser.cancel()
    await asyncio.gather(*losers, return_exceptions=True)

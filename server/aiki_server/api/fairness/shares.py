"""Turns of the namespaces at the loop of the server, by the time that the requests of each have held it.

One thread reads, decides and writes for all. A namespace whose requests are dear (lists, registrations, dense bodies, figures) would be answered
one request after another, and everybody else's request would wait behind all of them. So the time that each step of a request takes is counted for
its namespace. While others are being answered as well, a namespace that had more than its equal part of the last moments waits before its next
request begins; others do not wait for it.

Nobody waits for nothing: time in which the loop stood idle is given to everybody as if it were his part, so that two busy namespaces have the
whole loop between them. A namespace that has been alone for a second is not even counted.

What is counted is the time of the request's own steps; batches that it shares with others are not. Time for which a namespace held connections to
the database by itself is counted apart, because the loop may well stand idle then. A wait is as long as what the namespace had too much, and
beyond a number of waiting requests a further one is refused.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass, field
from types import coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CREDIT_SECONDS = 0.05
"""What a namespace may take at once."""
MOST_DEBT_SECONDS = 0.25
"""What a namespace owes at most, of either kind."""
PRESENT_SECONDS = 0.05
"""So long after the last step of a request, a namespace counts among those for whom others wait. Time in which requests hold the loop does not count
here: whoever waits behind them is there."""
UNDER_WAY_SECONDS = 0.25
"""The same for a namespace with a request that is not answered yet: what waits for longer is a long poll."""
LOOK_SECONDS = 0.005
"""So often whoever waits looks whether somebody else is there at all."""
ALONE_SECONDS = 1.0


@dataclass(slots=True)
class _Account:
    """Of one namespace."""

    credit: float = CREDIT_SECONDS
    """What it may take of the loop yet, in seconds."""
    owed: float = 0.0
    """What it had of the database, in seconds."""
    paid_at: float = 0.0
    idle_at: float = 0.0
    stepped_at: float = float("-inf")
    """By the time that no request held the loop, as in `PRESENT_SECONDS`."""
    usual: float = 0.0
    """What a request has taken lately: a request that begins is taken to cost that, until it has ended."""
    waiting: int = 0
    under_way: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def is_present(self, free: float) -> bool:
        """Whether others wait for it."""
        return self.waiting > 0 or free - self.stepped_at < (UNDER_WAY_SECONDS if self.under_way else PRESENT_SECONDS)


class Shares:
    """One per app. `clock` is the time, `busy` what the loop's thread has worked."""

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter, busy: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._busy = busy
        self._accounts: dict[str, _Account] = {}
        self._last: str | None = None
        self._last_at = float("-inf")
        self._mixed_at = float("-inf")
        self._held = 0.0
        """For how long counted steps have held the loop."""

    def contended(self, namespace: str) -> bool:
        """Whether others have asked lately as well; notes that this one asks."""
        now = self._clock()
        if namespace != self._last:
            if self._last is not None:
                self._mixed_at = now
                # While it was alone nothing was noted of it, and it may be under way.
                if now - self._last_at < UNDER_WAY_SECONDS:
                    self._account(self._last).stepped_at = now - self._held
            self._last = namespace
        self._last_at = now
        return now - self._mixed_at < ALONE_SECONDS

    def must_wait(self, namespace: str) -> bool:
        """Whether a request that comes now has to wait for its turn; notes that it came."""
        account, now = self._account(namespace), self._clock()
        account.stepped_at = now - self._held
        present = self._present(now)
        self._pay(account, now, present)
        return present > 1 and (account.waiting > 0 or account.credit < 0.0 or account.owed > CREDIT_SECONDS)

    def waiting(self, namespace: str) -> int:
        """How many requests wait."""
        return self._account(namespace).waiting

    async def turn(self, namespace: str) -> None:
        """Wait until the namespace may take more, or nobody else is there."""
        account = self._account(namespace)
        account.waiting += 1
        try:
            async with account.turn:
                # There is no event to wait for: time pays the debt, and others come and go meanwhile.
                while (seconds := self._debt(account)) > 0.0:  # noqa: ASYNC110
                    await asyncio.sleep(min(seconds, LOOK_SECONDS))
        finally:
            account.waiting -= 1

    def charge(self, namespace: str, seconds: float) -> None:
        """Count time for which a namespace held the database by itself."""
        account, now = self._account(namespace), self._clock()
        self._pay(account, now, self._present(now))  # of the same time, before the bound of its debt is applied
        account.owed = min(MOST_DEBT_SECONDS, account.owed + seconds)

    async def counted(self, namespace: str, request: Awaitable[T]) -> T:
        """Carry out a request; the time that its steps take is its namespace's, at the end of each step."""
        account = self._account(namespace)
        # What it will take is not known before its body was read: many that come at once would all be let in.
        reserved = account.usual
        account.credit -= reserved
        account.under_way += 1
        steps = _Steps()
        try:
            return await self._stepwise(request, account, steps)
        finally:
            account.under_way -= 1
            account.credit = min(CREDIT_SECONDS, account.credit + reserved)
            account.usual += (steps.seconds - account.usual) / 8

    @coroutine
    def _stepwise(self, request: Awaitable[T], account: _Account, steps: _Steps) -> Generator[Any, Any, T]:
        """Await it, and count how long it runs between its waits."""
        going, clock = request.__await__(), self._clock
        send, value = going.send, None
        while True:
            began = clock()
            try:
                waits_for = send(value)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            finally:
                now = clock()
                took = now - began
                self._held += took
                account.stepped_at = now - self._held
                account.credit -= took
                steps.seconds += took
            try:
                value = yield waits_for
                send = going.send
            except BaseException as error:  # noqa: BLE001  thrown into the request, as by a cancel
                send, value = going.throw, error

    def _debt(self, account: _Account) -> float:
        """For how many seconds the namespace has to wait, if the loop is never idle meanwhile."""
        now = self._clock()
        present = self._present(now)
        self._pay(account, now, present)
        # Who waits is present itself.
        return 0.0 if present < 2 else max(0.0, -account.credit, account.owed - CREDIT_SECONDS) * present

    def _pay(self, account: _Account, now: float, present: int) -> None:
        """Give it its part of the time that has passed, and what of it the loop stood idle."""
        passed, idle = max(0.0, now - account.paid_at), now - self._busy()
        part = passed / max(1, present)
        credit = account.credit + part + min(passed, max(0.0, idle - account.idle_at))
        account.credit = max(-MOST_DEBT_SECONDS, min(CREDIT_SECONDS, credit))
        account.owed = max(0.0, account.owed - part)
        account.paid_at, account.idle_at = now, idle

    def _present(self, now: float) -> int:
        free = now - self._held
        return sum(account.is_present(free) for account in self._accounts.values())

    def _account(self, namespace: str) -> _Account:
        account = self._accounts.get(namespace)
        if account is None:
            now = self._clock()
            account = self._accounts[namespace] = _Account(paid_at=now, idle_at=now - self._busy())
        return account


@dataclass(slots=True)
class _Steps:
    """Of one request."""

    seconds: float = 0.0

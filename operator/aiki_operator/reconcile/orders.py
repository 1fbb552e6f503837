"""What a turn has given out: orders to the Aiki server, writes to the cluster, and what came of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiki_operator.plan.rejection import Rejection, after
from aiki_operator.reporting.conditions import Condition, overruled
from aiki_operator.server_api import ServerApi, ServerApiError

Order = Callable[[ServerApi], Awaitable[object]]


class Orders:
    """The orders of one turn. One that the server does not take keeps no other from being given, unless the server is gone."""

    def __init__(self, control: ServerApi | None) -> None:
        self._control = control
        self.error: ServerApiError | None = None

    async def set_versioning(self, pool: str, versioning: str) -> bool:
        """How the pool's builds share its runs. Each order says whether it was taken."""
        return await self._give(lambda control: control.set_versioning(pool, versioning))

    async def promote(self, pool: str, build: str) -> bool:
        """The build takes over what it carries."""
        return await self._give(lambda control: control.promote(pool, build))

    async def share(self, pool: str, build: str, percent: int) -> bool:
        """The build gets a share of the new runs."""
        return await self._give(lambda control: control.share(pool, build, percent))

    async def unshare(self, pool: str, build: str) -> bool:
        """The build gets no new runs any more."""
        return await self._give(lambda control: control.unshare(pool, build))

    async def forget(self, pool: str, build: str) -> bool:
        """The build is deleted at the server; not taken where open runs need it."""
        return await self._give(lambda control: control.forget(pool, build))

    async def drain(self, worker: str, drain: bool) -> bool:
        """The worker claims nothing more, or claims again."""
        return await self._give(lambda control: control.drain(worker, drain=drain))

    async def worker_lost(self, worker: str) -> bool:
        """The worker is dead."""
        return await self._give(lambda control: control.worker_lost(worker))

    async def _give(self, order: Order) -> bool:
        """Whether the order was taken; the first error is kept, to be told."""
        if self._control is None or (self.error is not None and self.error.reason == "ServerUnreachable"):
            return False
        try:
            return await order(self._control) is not False
        except ServerApiError as error:
            self.error = self.error or error
            return False


@dataclass(slots=True)
class TurnResult:
    """What a turn has done, by the names that notices speak of, and what it could not do."""

    names: set[str] = field(default_factory=set)
    rejections: list[Rejection] = field(default_factory=list)

    def conditions(self, planned: tuple[Condition, ...], error: ServerApiError | None, body: Mapping[str, Any]) -> tuple[Condition, ...]:
        """The conditions of the plan, and what came of it."""
        found = after(planned, self.rejections, body)
        if error is None:
            return found
        return overruled(found, Condition("ServerReachable", False, error.reason, str(error)), lasting=False)

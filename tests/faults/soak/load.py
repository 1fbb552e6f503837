"""The services that use the installation: they start errands, send events, cancel, pause and resume, and note what was acknowledged.

Each request is repeated until it is answered. What the answers promise is held against the tables by `verdict`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from aiki import Client, ResultTimeout, RunCancelled, RunFailed, RunHandle
from faults.soak.errand import Plan, errand
from faults.soak.patience import insist, unless_refused
from faults.soak.plans import awaited, root_plan
from faults.soak.poison import Poison
from faults.soak.stage import MAIN, TENANTS

log = logging.getLogger(__name__)

CLIENTS = 3
MOST_OPEN = 200
RESULT_SECONDS = 10.0


@dataclass(slots=True)
class Errand:
    """One run, as its callers know it."""

    namespace: str
    ref: str
    plan: Plan
    pool: str = MAIN
    ids: set[str] = field(default_factory=set)
    """All ids that starts with this ref were answered with."""
    sent: dict[str, int] = field(default_factory=dict)
    """How many events of each name were acknowledged: their payloads are 1, 2, 3, ..."""
    numbers: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    """The number that the server gave each event."""
    cancelled_at: float | None = None
    """When the request to cancel it was acknowledged."""
    cancelled_children: set[str] = field(default_factory=set)
    """Children of its run that somebody asked to end."""
    paused_at: float | None = None
    """When the request to pause it was acknowledged."""
    pausing: bool = False
    """Whether anybody asked to pause it."""
    resumed_at: float | None = None
    """When anybody asked first to resume it."""
    ending: str | None = None
    output: Any = None


class Load:
    """What one tenant does. Runs in a thread of its own until `close_admission` and until all errands have ended."""

    def __init__(self, url: str, tenant: str, *, pools: Sequence[str], random: Random, per_second: float) -> None:
        self.errands: list[Errand] = []
        self.faults: list[str] = []
        """Answers that nobody should get."""
        self.tenant = tenant
        self.poison = Poison()
        self._url = url
        self._pools = pools
        self._random = random
        self._per_second = per_second
        self._closed = threading.Event()
        self._clients: list[Client] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name=f"load of {tenant}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close_admission(self) -> None:
        """Start no more errands."""
        self._closed.set()

    def ended(self, seconds: float) -> bool:
        """Wait until every errand has ended; False where some have not."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    async def _run(self) -> None:
        self._clients = [Client(self._url, TENANTS[self.tenant]) for _ in range(CLIENTS)]
        places = asyncio.Semaphore(MOST_OPEN)
        async with asyncio.TaskGroup() as group:
            group.create_task(self.poison.spread(self._clients[0]))
            while not self._closed.is_set():
                await asyncio.sleep(self._random.expovariate(self._per_second))
                await places.acquire()
                pool = self._random.choice(self._pools)
                one = Errand(self.tenant, f"errand-{len(self.errands)}", root_plan(self._random), pool)
                self.errands.append(one)
                group.create_task(self._live(one, Random(self._random.random()))).add_done_callback(lambda _: places.release())
        for client in self._clients:
            await client.close()

    async def _live(self, one: Errand, random: Random) -> None:
        """From the start to the end of one run; several clients start it at once, some once more at its end."""
        try:
            handles = await asyncio.gather(*(self._start(one, client) for client in self._some(random)))
            async with asyncio.TaskGroup() as group:
                for work in self._meddling(one, handles[0], random):
                    group.create_task(work)
                group.create_task(self._await_end(one, handles[0]))
            if random.random() < 0.2:
                await self._start(one, random.choice(self._clients))
        except Exception as error:
            log.exception("an errand failed")
            self.faults.append(f"{one.ref}: {error!r}")

    def _some(self, random: Random) -> list[Client]:
        return random.sample(self._clients, random.choice([1, 1, 2, CLIENTS]))

    def _meddling(self, one: Errand, handle: RunHandle[Any], random: Random) -> list[Coroutine[Any, Any, None]]:
        works = [self._send(one, handle, colour, count, Random(random.random())) for colour, count in awaited(one.plan).items()]
        if random.random() < 0.15:
            works.append(self._cancel(one, handle, random.uniform(0, 4)))
        if random.random() < 0.25:
            works.append(self._pause(one, handle, random.uniform(0, 3), random.choice([random.uniform(0, 2), random.uniform(6, 9)])))
        if random.random() < 0.4:
            works.append(self._cancel_child(one, handle, random))
        return works

    async def _start(self, one: Errand, client: Client) -> RunHandle[Any]:
        handle = await insist(lambda: client.start(errand, one.plan, version="1.0", ref=one.ref, pool=one.pool))
        one.ids.add(handle.id)
        return handle

    async def _send(self, one: Errand, handle: RunHandle[Any], colour: str, count: int, random: Random) -> None:
        """Events of one name, one after the other; each by one or several clients at once, under one id."""
        for number in range(1, count + 1):
            await asyncio.sleep(random.choice([0, 0, 0.1, random.uniform(0, 3)]))
            sends = [self._send_one(one, client, handle.id, colour, number) for client in self._some(random)]
            if not all(await asyncio.gather(*sends)):
                return
            one.sent[colour] = number

    async def _send_one(self, one: Errand, client: Client, run: str, colour: str, number: int) -> bool:
        accepted = await unless_refused(lambda: client.handle(run).send(colour, number, id=f"{colour}-{number}"))
        if accepted is not None:
            one.numbers.setdefault((colour, number), set()).add(accepted.seq)
        return accepted is not None

    async def _cancel(self, one: Errand, handle: RunHandle[Any], after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        if await unless_refused(handle.cancel) is not None:
            one.cancelled_at = time.time()

    async def _cancel_child(self, one: Errand, handle: RunHandle[Any], random: Random) -> None:
        """Somebody else than its parent ends a child, whether or not the parent waits for it."""
        await asyncio.sleep(random.uniform(0, 3))
        client = random.choice(self._clients)
        children = [child for child in (await insist(lambda: client.runs(parent=handle.id))).runs if child.finished_at is None]
        if children:
            chosen = random.choice(children).id
            one.cancelled_children.add(chosen)
            await unless_refused(client.handle(chosen).cancel)

    async def _pause(self, one: Errand, handle: RunHandle[Any], after_seconds: float, for_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        one.pausing = True
        if await unless_refused(handle.pause) is not None:
            one.paused_at = time.time()
        await asyncio.sleep(for_seconds)
        await self._resume(one, handle)

    async def _resume(self, one: Errand, handle: RunHandle[Any]) -> None:
        one.resumed_at = one.resumed_at or time.time()
        await unless_refused(handle.resume)

    async def _await_end(self, one: Errand, handle: RunHandle[Any]) -> None:
        try:
            while one.ending is None:
                try:
                    one.output = await insist(lambda: handle.result(RESULT_SECONDS))
                    one.ending = "completed"
                except ResultTimeout:
                    await self._resume_if_paused(one, handle)
        except RunCancelled:
            one.ending = "cancelled"
        except RunFailed as failed:
            one.ending = "failed"
            one.output = failed.error

    async def _resume_if_paused(self, one: Errand, handle: RunHandle[Any]) -> None:
        """A request to pause whose answer was lost may be carried out after the resume that followed its repetition."""
        if one.pausing:
            await self._resume(one, handle)

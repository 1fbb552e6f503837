"""Children of runs on real workers: started, awaited, given up, abandoned."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from aiki import (
    Client,
    Event,
    Run,
    RunCancelled,
    RunHandle,
    task,
    task_context,
    workflow,
)
from aiki.definitions.workflow import Close
from support.doubles import add
from support.waiting import until
from support.workers import SECONDS, StartWorker


async def test_children_are_started_and_awaited(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def child(run: Run, n: int) -> int:
        return await add.start(run, n, n)

    @flow.v("2.0")
    async def parent(run: Run, n: int) -> int:
        children = [child.start(run, i) for i in range(n)]
        return sum(await asyncio.gather(*children))

    await start_worker(flow)
    assert await (await parent.start(client, 20)).result(SECONDS) == 380


class Race:
    """A parent that gives its child up for a quick task once the child has begun, and goes on until it is let go."""

    def __init__(self, name: str, policy: Close) -> None:
        self.flow = workflow(name)
        self.go = Event("go", str)
        self.tidied_up: list[str] = []
        began = asyncio.Event()

        @task
        async def begin() -> None:
            began.set()

        @task
        async def quick() -> None:
            await began.wait()

        @task
        async def tidy_up() -> None:
            self.tidied_up.append(task_context().run_id)

        @self.flow.v("1.0")
        async def child(run: Run) -> str:
            await begin.start(run)
            try:
                return await run.wait(self.go)
            finally:
                await tidy_up.start(run)

        @self.flow.v("2.0")
        async def parent(run: Run) -> str:
            started = child.start(run, on_parent_close=policy)
            run.state["child"] = started.id
            won = await run.first(child=started, quick=quick.start(run))
            run.state["won"] = won.name
            return await run.wait(self.go)

        self.parent = parent

    async def given_up(self, client: Client) -> tuple[RunHandle[Any], RunHandle[Any]]:
        """Parent and child, once the race is over."""
        handle = await self.parent.start(client)

        async def won() -> Any:
            state = (await handle.refresh()).state
            return state if "won" in state else None

        state = await until(won)
        assert state["won"] == "quick"
        return handle, client.handle(state["child"])


async def test_child_that_is_given_up_is_cancelled_while_its_parent_goes_on(client: Client, start_worker: StartWorker, unique: str) -> None:
    race = Race(unique, "cancel")
    await start_worker(race.flow)
    parent, child = await race.given_up(client)
    with pytest.raises(RunCancelled):
        await child.result(SECONDS)
    assert race.tidied_up == [child.id]
    assert [entry.kind for entry in (await child.history()).entries].count("cancel") == 1
    assert not (await parent.refresh()).status.terminal
    await parent.send(race.go, "on")
    assert await parent.result(SECONDS) == "on"
    assert [entry.kind for entry in (await parent.history()).entries].count("child_cancel_requested") == 1


async def test_child_that_was_started_to_be_abandoned_outlives_the_race(client: Client, start_worker: StartWorker, unique: str) -> None:
    race = Race(unique, "abandon")
    await start_worker(race.flow)
    parent, child = await race.given_up(client)
    await parent.send(race.go, "on")
    assert await parent.result(SECONDS) == "on"
    assert not (await child.refresh()).cancel_requested
    await child.send(race.go, "done")
    assert await child.result(SECONDS) == "done"
    assert race.tidied_up == [child.id]


async def test_child_that_is_given_up_is_cancelled_whatever_worker_its_parent_comes_to(
    client: Client, start_worker: StartWorker, unique: str
) -> None:
    race = Race(unique, "cancel")
    worker = await start_worker(race.flow)
    parent, child = await race.given_up(client)
    with pytest.raises(RunCancelled):
        await child.result(SECONDS)
    await worker.stop(grace_seconds=0)
    await start_worker(race.flow)
    await parent.send(race.go, "on")
    assert await parent.result(SECONDS) == "on"
    assert [entry.kind for entry in (await parent.history()).entries].count("child_cancel_requested") == 1

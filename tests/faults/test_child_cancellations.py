"""The server or the worker dies while parents give their children up: each child is cancelled, once, and no parent hears of it twice."""

from __future__ import annotations

import asyncio

import pytest

from aiki import Client, RunHandle
from aiki.protocol import Status
from faults import checks
from faults.installation import Installation
from support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]

RUNS = 20
POINTS = [("before_commit", 1), ("after_commit", 1), ("after_commit", 2), ("before_commit", 3), ("after_commit", 4)]

Handles = dict[str, RunHandle[object]]


async def racing(installation: Installation, client: Client, unique: str) -> tuple[Handles, Handles]:
    """Parents that hold a task, and their children, which all wait."""
    parents = await checks.started(client, "racing", [unique] * RUNS, prefix=unique)
    ids = {handle.id: name for name, handle in parents.items()}

    async def all_wait() -> Handles | None:
        waiting = [run async for run in client.all_runs(workflow="raced", status=Status.WAITING)]
        children = {ids[run.parent]: client.handle(run.id) for run in waiting if run.parent in ids}
        return children if len(children) == len(installation.starts(unique)) == RUNS else None

    return parents, await until(all_wait, seconds=20) or {}


async def each_was_cancelled_once(installation: Installation, parents: Handles, children: Handles) -> None:
    """S27 S28 S29: one request, one delivery, one end; and the parents go on, having given up one child each."""

    async def all_cancelled() -> bool:
        return all([(await child.refresh()).status is Status.CANCELLED for child in children.values()])

    await until(all_cancelled, seconds=checks.PATIENCE_SECONDS)
    await checks.each_ended_once(children)
    for child in children.values():
        assert [entry.kind for entry in await checks.history(child)].count("cancel") == 1
    for parent in parents.values():
        await parent.send("go", "on")
    await checks.everything(installation, parents, checks.each(parents, ["gate", "after", "on"]))
    for parent in parents.values():
        assert [entry.kind for entry in await checks.history(parent)].count("child_cancel_requested") == 1
    await checks.nothing_acknowledged_ran_again(installation, children)
    assert installation.starts("tidied up").keys() == {child.id for child in children.values()}


@pytest.mark.parametrize(("point", "passes"), POINTS)
async def test_server_killed_while_children_are_given_up(
    installation: Installation, client: Client, unique: str, point: str, passes: int
) -> None:
    """S27 S28 S29 S12-S15: between giving up, telling, and being cancelled, the server may die anywhere."""
    installation.worker()
    parents, children = await racing(installation, client, unique)
    installation.server.stop()
    installation.server.start(fault=f"{point}:{passes}")
    installation.open_gate(unique)
    await asyncio.to_thread(installation.server.wait)
    installation.server.start()
    await each_was_cancelled_once(installation, parents, children)


async def test_worker_killed_while_children_are_given_up(installation: Installation, client: Client, unique: str) -> None:
    """S27 S28 S29 S12-S15 L22: the next worker's replay gives up what was not stored, and nothing again that was."""
    victim = installation.worker()
    parents, children = await racing(installation, client, unique)
    installation.open_gate(unique)

    async def some_went_on() -> bool:
        return bool(installation.starts("after"))

    await until(some_went_on, seconds=20)
    victim.kill()
    installation.worker()
    await each_was_cancelled_once(installation, parents, children)

"""The server kills itself at every point between two effects; what it acknowledged holds, what it did not converges."""

from __future__ import annotations

import asyncio

import pytest

from aiki import Client
from faults import checks
from faults.installation import Installation
from support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]

RUNS = 30
POINTS = [
    ("before_commit", 2),
    ("after_commit", 1),
    ("after_commit", 5),
    ("after_start_commit", 3),
    ("after_claim", 1),
    ("after_claim", 4),
    ("after_dispatch_commit", 2),
]


@pytest.mark.parametrize(("point", "passes"), POINTS)
async def test_a_server_killed_anywhere_loses_and_repeats_nothing(
    installation: Installation, client: Client, unique: str, point: str, passes: int
) -> None:
    """S1 S2 S3 S5 S7 S12-S16 L40: starts converge on one run for each ref, commits are written once, claims are found again."""
    installation.server.stop()
    installation.server.start(fault=f"{point}:{passes}")
    installation.worker(concurrency=5)

    async def start_all() -> dict[str, str]:
        handles = await checks.started(client, "steps", [5] * RUNS, prefix=unique)
        return {name: handle.id for name, handle in handles.items()}

    starting = asyncio.ensure_future(start_all())
    await asyncio.to_thread(installation.server.wait)
    installation.server.start()
    ids = await starting
    handles = {name: client.handle(run_id) for name, run_id in ids.items()}
    assert len(set(ids.values())) == RUNS
    await checks.everything(installation, handles, checks.each(handles, [f"s{number}" for number in range(5)]))
    again = await checks.started(client, "steps", [5] * RUNS, prefix=unique)
    assert {name: handle.id for name, handle in again.items()} == ids
    assert len([run async for run in client.all_runs(workflow="steps") if run.ref in ids]) == RUNS


async def test_server_killed_under_load_again_and_again(installation: Installation, client: Client, unique: str) -> None:
    """S1 S5 S7 S12-S15 L40: three kills at any moment; a lost answer is no lost run and no second execution."""
    installation.worker()
    handles = await checks.started(client, "steps", [20] * RUNS, prefix=unique)
    for part in range(1, 4):

        def further(goal: int = part * RUNS * 3) -> bool:
            return len(installation.trace()) >= goal

        await until(further, seconds=20)
        installation.server.kill()
        await asyncio.to_thread(installation.server.start)
    await checks.everything(installation, handles, checks.each(handles, [f"s{number}" for number in range(20)]))

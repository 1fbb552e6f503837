"""kill -9 of a worker, wherever a run may be; and SIGTERM, which must cost nothing."""

from __future__ import annotations

import time

import pytest

from aiki import Client
from faults import checks
from faults.installation import LEASE_SECONDS, Installation
from support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]

RUNS = 20
LOST_SECONDS = LEASE_SECONDS + 5
"""L22: lease and sweep."""


async def test_worker_killed_in_a_step(installation: Installation, client: Client, unique: str) -> None:
    """S1 S5 S9 S10 S12-S15 L22: the step that was running runs again elsewhere, and nothing before it; no attempt is lost."""
    victim = installation.worker()
    handles = await checks.started(client, "in-step", [unique] * RUNS, prefix=unique)

    async def all_in_step() -> bool:
        return len(installation.starts(unique)) == RUNS

    async def all_stored() -> bool:
        return all([(await handle.refresh()).steps >= 2 for handle in handles.values()])

    await until(all_in_step, seconds=20)
    await until(all_stored)
    victim.kill()
    killed_at = time.time()
    installation.worker()

    async def all_again() -> bool:
        return list(installation.starts(unique).values()) == [2] * RUNS

    await until(all_again, seconds=20)
    assert max(entry.at for entry in installation.trace() if entry.step == unique) - killed_at < LOST_SECONDS
    installation.open_gate(unique)
    await checks.everything(installation, handles, checks.each(handles, ["before", unique, "after"]))
    assert set(installation.starts("before").values()) == {1}
    assert set(installation.starts("after").values()) == {1}
    assert {entry.attempt for entry in installation.trace()} == {1}


async def test_worker_killed_between_steps_again_and_again(installation: Installation, client: Client, unique: str) -> None:
    """S1 S5 S10 S12-S15 L40: three workers are killed in the middle of runs of 30 quick steps."""
    handles = await checks.started(client, "steps", [30] * RUNS, prefix=unique)
    for kills in range(1, 4):
        victim = installation.worker(concurrency=7)
        goal = len(installation.trace()) + 60

        async def some_steps(goal: int = goal) -> bool:
            return len(installation.trace()) >= goal

        await until(some_steps, seconds=20)
        victim.kill()
        assert max(installation.starts("s0").values()) <= kills
    installation.worker()
    expected = [f"s{number}" for number in range(30)]
    await checks.everything(installation, handles, checks.each(handles, expected))


async def test_worker_killed_in_a_retry_delay(installation: Installation, client: Client, unique: str) -> None:
    """S5 S9: the failed attempt was recorded before the delay, so the next worker goes on with the next attempt."""
    victim = installation.worker()
    handles = await checks.started(client, "retrying", [None] * RUNS, prefix=unique)

    async def first_attempts_recorded() -> bool:
        histories = [await checks.history(handle) for handle in handles.values()]
        return all(any(entry.kind == "attempt" for entry in entries) for entries in histories)

    await until(first_attempts_recorded, seconds=20)
    attempts = {entry.attempt for entry in installation.trace() if entry.step == "flaky"}
    victim.kill()
    assert attempts == {1}, "the kill was meant to come in the first delay"
    installation.worker()
    await checks.everything(installation, handles, checks.each(handles, ["before", 3, "after"]))
    assert set(installation.starts("flaky").values()) == {3}
    by_run: dict[str, list[int]] = {}
    for entry in installation.trace():
        if entry.step == "flaky":
            by_run.setdefault(entry.run, []).append(entry.attempt)
    assert set(map(tuple, by_run.values())) == {(1, 2, 3)}


async def test_worker_killed_while_runs_are_parked(installation: Installation, client: Client, unique: str) -> None:
    """S5 S19 S24: a run that waits needs no worker; the one that comes later finds event and timer."""
    victim = installation.worker()
    sleeping = await checks.started(client, "parked", [4.0] * RUNS, prefix=f"{unique}-sleep")
    waiting = await checks.started(client, "parked", [0] * RUNS, prefix=f"{unique}-event")

    async def all_parked() -> bool:
        return all([(await handle.refresh()).waits for handle in (*sleeping.values(), *waiting.values())])

    await until(all_parked, seconds=20)
    victim.kill()
    for name, handle in waiting.items():
        await handle.send("go", name)
    installation.worker()
    await checks.everything(installation, sleeping, checks.each(sleeping, ["before", "after"]))
    await checks.everything(installation, waiting, {name: ["before", name, "after"] for name in waiting})
    assert set(installation.starts("before").values()) == {1}
    assert set(installation.starts("after").values()) == {1}
    for handle in sleeping.values():
        entries = await checks.history(handle)
        due = next(entry.data["due"] for entry in entries if entry.data.get("l", "").startswith("sleep"))
        fired = next(entry.at.timestamp() for entry in entries if entry.kind == "done" and entry.data["c"] == 1)
        assert fired * 1e6 >= due - 1


async def test_workers_stopped_in_order_under_load_cost_nothing(installation: Installation, client: Client, unique: str) -> None:
    """S5 S9 S36: with SIGTERM no step runs twice and no attempt is lost, though every worker goes."""
    first, second = installation.worker(concurrency=10), installation.worker(concurrency=10)

    async def both_work() -> bool:
        await client.start("steps", 1)
        return len({entry.pid for entry in installation.trace()}) == 2

    await until(both_work, seconds=20)
    begun = len(installation.trace())
    handles = await checks.started(client, "steps", [30] * RUNS, prefix=unique)

    async def under_way() -> bool:
        return len(installation.trace()) >= begun + 30

    await until(under_way, seconds=20)
    assert first.stop() == 0
    assert second.stop() == 0
    installation.worker()
    expected = [f"s{number}" for number in range(30)]
    await checks.everything(installation, handles, checks.each(handles, expected))
    ours = {handle.id for handle in handles.values()}
    keys = [entry.key for entry in installation.trace() if entry.run in ours]
    assert len(keys) == len(set(keys)) == RUNS * 30

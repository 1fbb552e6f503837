"""Redis is a doorbell: it may be emptied, restarted empty, be away, or say nonsense."""

from __future__ import annotations

import time

import pytest
from redis.asyncio import Redis

from aiki import Client
from aiki.client import Start
from faults import checks
from faults.installation import Installation
from support.waiting import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]

RUNS = 60
STREAM = "aiki:{default:default}:steps:1.0"


def _expected(count: int) -> list[str]:
    return [f"s{number}" for number in range(count)]


async def _ended(client: Client, names: set[str]) -> int:
    return len([run async for run in client.all_runs(status="completed", workflow="steps") if run.ref in names])


async def test_redis_emptied_under_load(installation: Installation, client: Client, unique: str) -> None:
    """S5 S16 L18: everything in Redis vanishes, five times, and every run ends as if it had not; no step runs twice."""
    installation.worker(concurrency=10)
    installation.worker(concurrency=10)
    handles = await checks.started(client, "steps", [5] * RUNS, prefix=unique)
    async with Redis.from_url(installation.valkey.url) as redis:
        for part in range(1, 6):

            async def further(goal: int = part * RUNS // 2) -> bool:
                return len(installation.trace()) >= goal

            await until(further, seconds=20)
            await redis.flushall()
    await checks.everything(installation, handles, checks.each(handles, _expected(5)))
    assert len({entry.key for entry in installation.trace()}) == len(installation.trace()) == RUNS * 5


async def test_work_goes_on_after_redis_has_restarted_empty(installation: Installation, client: Client, unique: str) -> None:
    """S5 S16 L18: a new Redis without a group or an entry; workers and server find their way back."""
    installation.worker(concurrency=10)
    handles = await checks.started(client, "steps", [5] * RUNS, prefix=unique)
    installation.valkey.kill()
    installation.valkey.start()
    handles |= await checks.started(client, "steps", [5] * 10, prefix=f"{unique}-after")
    await checks.everything(installation, handles, checks.each(handles, _expected(5)))
    assert len({entry.key for entry in installation.trace()}) == len(installation.trace())


async def test_redis_away_for_a_while(installation: Installation, client: Client, unique: str) -> None:
    """S1 S5 S16 L18: starts are accepted, events and timers arrive, and work goes on through Postgres; with Redis back, too."""
    installation.worker()
    warm = await checks.started(client, "steps", [5] * 5, prefix=f"{unique}-warm")
    await checks.everything(installation, warm, checks.each(warm, _expected(5)))
    installation.valkey.kill()
    away = await checks.started(client, "steps", [5] * RUNS, prefix=f"{unique}-away")
    waiting = await checks.started(client, "parked", [0] * 5, prefix=f"{unique}-event")
    sleeping = await checks.started(client, "parked", [0.5] * 5, prefix=f"{unique}-sleep")
    await checks.everything(installation, away, checks.each(away, _expected(5)))
    for name, handle in waiting.items():
        await handle.send("go", name)
    await checks.everything(installation, waiting, {name: ["before", name, "after"] for name in waiting})
    await checks.everything(installation, sleeping, checks.each(sleeping, ["before", "after"]))
    installation.valkey.start()
    back = await checks.started(client, "steps", [5] * RUNS, prefix=f"{unique}-back")
    await checks.everything(installation, back, checks.each(back, _expected(5)))
    assert len({entry.key for entry in installation.trace()}) == len(installation.trace())


async def test_polling_keeps_at_least_a_fifth_of_the_rate(installation: Installation, client: Client, unique: str) -> None:
    """L18: the rate without Redis, over 400 runs that are queued already, against the rate with it."""
    rates: list[float] = []
    for name in ("with", "without"):
        if name == "without":
            installation.valkey.kill()
        names = [f"{unique}-{name}-{number}" for number in range(400)]
        await client.start_many([Start("steps", 1, ref=ref) for ref in names])
        began = time.monotonic()
        worker = installation.worker()

        async def all_ended(names: frozenset[str] = frozenset(names)) -> bool:
            return await _ended(client, set(names)) == len(names)

        await until(all_ended, seconds=30)
        rates.append(len(names) / (time.monotonic() - began))
        worker.stop()
    print(f"runs/s with Redis {rates[0]:.0f}, without {rates[1]:.0f}")
    assert rates[1] >= rates[0] / 5


async def test_nonsense_in_a_stream(installation: Installation, client: Client, unique: str) -> None:
    """S6 S17: duplicates, ended runs, runs of nobody, and what is no run id at all: no second execution, no crash, and the stream empties."""
    worker = installation.worker(concurrency=10)
    handles = await checks.started(client, "steps", [5] * RUNS, prefix=unique)
    async with Redis.from_url(installation.valkey.url) as redis:
        for handle in handles.values():
            for fields in ({"r": handle.id}, {"r": handle.id}, {"r": "00" + "ab" * 15}, {"r": "nonsense"}, {"x": b"\xff"}):
                await redis.xadd(STREAM, fields)  # type: ignore[arg-type]  # redis-py's dict is invariant
        await checks.everything(installation, handles, checks.each(handles, _expected(5)))

        async def empty() -> bool:
            return bool(await redis.xlen(STREAM) == 0)

        await until(empty, seconds=20)
    assert worker.alive
    assert len({entry.key for entry in installation.trace()}) == len(installation.trace()) == RUNS * 5

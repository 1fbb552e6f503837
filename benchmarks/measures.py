"""The workloads W1 to W6 and idle: each drives a running installation and returns figures, in the units of its keys."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from statistics import fmean
from typing import Any

import asyncpg
from benchmarks.installation import Installation
from benchmarks.workloads import listener_v1, parallel_v1, parent_v1, poke, sleeper_v1, steps_v1

from aiki import VersionDefinition
from aiki.client import Client, Start

Figures = dict[str, float]
RESULT_SECONDS = 60.0
IDLE_SECONDS = 10.0
GROWTH_SECONDS = 300.0
SINGLE_START_CONCURRENCY = 50
BATCH = 500
PACE = 500
LATENESS = "select output from runs where workflow = 'bench-sleeper' and status = 'completed'"


async def throughput(installation: Installation, *, runs: int, steps: int, batch: bool) -> Figures:
    """W1: rate and CPU time per run, from the first start to the commit of the last completion."""
    async with installation.client() as client, installation.database() as database:
        before = await _ended(database)
        cpu = installation.cpu()
        began = time.perf_counter()
        await (_start_batches(client, runs, steps) if batch else _start_singly(client, steps_v1, [steps] * runs))
        started = time.perf_counter() - began
        await _until(lambda: _ended(database), before + runs)
        elapsed = time.perf_counter() - began
        spent = {part: after - cpu[part] for part, after in installation.cpu().items()}
    per_run = {f"cpu_ms_{part}": seconds / runs * 1e3 for part, seconds in spent.items()}
    without_client = sum(value for part, value in per_run.items() if part != "cpu_ms_client")
    return {"runs_per_s": runs / elapsed, "starts_per_s": runs / started, "cpu_ms_per_run": without_client, **per_run}


async def latency(installation: Installation, *, runs: int, steps: int) -> Figures:
    """W2: start to result, one run after the other, in milliseconds."""
    async with installation.client() as client:

        async def once() -> None:
            handle = await steps_v1.start(client, steps)
            await handle.result(timeout=RESULT_SECONDS)

        return await _timed(once, runs)


async def fan_out(installation: Installation, *, children: bool, width: int, repeats: int) -> Figures:
    """W3: a parent with `width` children, or with `width` parallel steps, in milliseconds from start to result."""
    version = parent_v1 if children else parallel_v1
    async with installation.client() as client:

        async def once() -> None:
            handle = await version.start(client, width)
            total = await handle.result(timeout=RESULT_SECONDS)
            assert total == (width if children else width * (width + 1) // 2), total

        return await _timed(once, repeats)


async def growth(installation: Installation, *, width: int) -> Figures:
    """W7: the worker's CPU time for a run of twice as many parallel steps, and of twice as many children, as a ratio: 2 is linear."""
    figures: Figures = {}
    async with installation.client() as client:
        for name, version in (("steps", parallel_v1), ("children", parent_v1)):
            spent = []
            for size in (width, 2 * width):
                before = installation.cpu()["worker"]
                await (await version.start(client, size)).result(timeout=GROWTH_SECONDS)
                spent.append(installation.cpu()["worker"] - before)
            figures[f"{name}_ratio"] = spent[1] / spent[0]
            figures[f"{name}_cpu_ms_each"] = spent[1] / (2 * width) * 1e3
    return figures


async def lateness(installation: Installation, *, runs: int) -> Figures:
    """W4: milliseconds between a sleeping run's due time and the start of its next step.

    Started at PACE a second: faster, and what is measured is how long a backlog takes that the client has made, not the timers.
    """
    async with installation.client() as client, installation.database() as database:
        before = await _ended(database)
        await _start_paced(client, runs)
        await _until(lambda: _ended(database), before + runs)
        return _spread([float(row["output"]) for row in await database.fetch(LATENESS)])


async def events(installation: Installation, *, runs: int) -> Figures:
    """W5: an event sent to a waiting run, to its completion, one at a time, in milliseconds."""
    async with installation.client() as client, installation.database() as database:
        handles = await client.start_many([Start(listener_v1, n) for n in range(runs)])
        await _until(lambda: _waiting(database), runs)
        left = iter(handles)

        async def once() -> None:
            handle = next(left)
            await handle.send(poke, 1)
            await handle.result(timeout=RESULT_SECONDS)

        return await _timed(once, runs)


async def killed_worker(installation: Installation, *, runs: int, steps: int) -> Figures:
    """W6: `kill -9` of the worker in the middle, another one started at once: seconds until every run has ended, and how many ended wrongly."""
    async with installation.client() as client, installation.database() as database:
        before = await _ended(database)
        handles = await client.start_many([Start(steps_v1, steps) for _ in range(runs)])
        await _until(lambda: _steps(database), runs * steps // 4)
        ended = await _ended(database) - before
        installation.kill_worker()
        killed = time.perf_counter()
        await installation.use_workers(1)
        results = await asyncio.gather(*[handle.result(timeout=RESULT_SECONDS) for handle in handles])
        elapsed = time.perf_counter() - killed
    return {
        "seconds_to_all_done": elapsed,
        "ended_before_the_kill": float(ended),
        "wrong_results": float(sum(result != steps for result in results)),
    }


async def idle(installation: Installation) -> Figures:
    """CPU time of server and worker with nothing to do, in percent of one core."""
    before = installation.cpu()
    await asyncio.sleep(IDLE_SECONDS)
    spent = {part: (after - before[part]) / IDLE_SECONDS * 100 for part, after in installation.cpu().items()}
    return {"server_and_worker_percent": spent["server"] + spent["worker"], **{f"{part}_percent": value for part, value in spent.items()}}


async def _start_batches(client: Client, runs: int, steps: int) -> None:
    batches = [[Start(steps_v1, steps) for _ in range(min(BATCH, runs - first))] for first in range(0, runs, BATCH)]
    await asyncio.gather(*[client.start_many(batch) for batch in batches])


async def _start_singly(client: Client, version: VersionDefinition[int, Any], inputs: Iterable[int]) -> None:
    left = iter(inputs)

    async def starter() -> None:
        for value in left:
            await version.start(client, value)

    await asyncio.gather(*[starter() for _ in range(SINGLE_START_CONCURRENCY)])


async def _start_paced(client: Client, runs: int) -> None:
    began = time.perf_counter()
    for first in range(0, runs, PACE // 10):
        await client.start_many([Start(sleeper_v1, number) for number in range(first, min(first + PACE // 10, runs))])
        await asyncio.sleep(max(0.0, began + (first + PACE // 10) / PACE - time.perf_counter()))


async def _timed(once: Callable[[], Awaitable[None]], repeats: int) -> Figures:
    samples = []
    for _ in range(repeats):
        began = time.perf_counter()
        await once()
        samples.append((time.perf_counter() - began) * 1e3)
    return _spread(samples)


def _spread(samples: Sequence[float]) -> Figures:
    ordered = sorted(samples)

    def quantile(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return {"p50_ms": quantile(0.50), "p95_ms": quantile(0.95), "p99_ms": quantile(0.99), "max_ms": ordered[-1], "mean_ms": fmean(ordered)}


async def _ended(database: asyncpg.Connection) -> int:
    return int(await database.fetchval("select count(*) from runs where finished_at is not null"))


async def _steps(database: asyncpg.Connection) -> int:
    return int(await database.fetchval("select coalesce(sum(steps), 0) from runs where workflow = 'bench-steps' and status = 'running'"))


async def _waiting(database: asyncpg.Connection) -> int:
    return int(await database.fetchval("select count(*) from runs where workflow = 'bench-listener' and status = 'waiting'"))


async def _until(count: Callable[[], Awaitable[int]], wanted: int, *, deadline: float = 120.0) -> None:
    end = time.perf_counter() + deadline
    while (have := await count()) < wanted:
        if time.perf_counter() > end:
            raise TimeoutError(f"{have} of {wanted} after {deadline:.0f} s")
        await asyncio.sleep(0.05)

"""Scenario 5: workers die in the middle of their tasks, by the pod's deletion and by a kill inside of the container."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.conftest import Figure, pool
from e2e.kube import Kube, is_ready, named, time_until
from e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

RUNS = 20


@pytest_asyncio.fixture(loop_scope="session")
async def two(aiki: Kube) -> AsyncIterator[None]:
    """A pool of two pods that could each take everything."""
    # A container's first process cannot be killed from inside; in a shared process namespace the worker is not the first.
    template = {"spec": {"shareProcessNamespace": True}}
    await aiki.apply(named("AikiWorkerPool", "mortal", pool(concurrency=RUNS, minReplicas=2, maxReplicas=2, template=template)))

    async def both_ready() -> bool:
        return sum(is_ready(pod) for pod in await aiki.pods("aiki.dev/pool=mortal")) == 2

    await time_until("both pods are ready", both_ready, 60)
    yield
    await aiki.kubectl("delete", "aikiworkerpool", "mortal")


@pytest.mark.parametrize("how", ["kubectl delete pod --force", "kill -9 in the container"])
async def test_runs_of_a_dead_worker_go_on_elsewhere(aiki: Kube, service: Service, two: None, figure: Figure, how: str) -> None:
    ids = await service.start("napping", [6.0] * RUNS, pool="mortal")
    holders = await _holders(service, ids)
    victim, held = max(holders.items(), key=lambda item: len(item[1]))
    pod = victim.rsplit("-", 2)[0]
    began = time.monotonic()
    if how.startswith("kubectl"):
        kill = asyncio.create_task(aiki.kubectl("delete", "pod", pod, "--force", "--grace-period=0", ok=False))
    else:
        kill = asyncio.create_task(aiki.kubectl("exec", pod, "--", "python3", "-c", KILL, ok=False))

    async def one_has_moved() -> bool:
        runs = await service.runs(held[:5])
        return any(run["worker"] not in (None, victim) and run["epoch"] > 1 for run in runs)

    await time_until("a run has moved", one_has_moved, 20, every=0.02)
    moved = time.monotonic() - began
    await kill
    figure(f"5 {how}, {len(held)} tasks running: first moved run starts after", f"{moved:.2f} s (must be at most 3)")
    runs = await service.finished(ids, 60)
    assert {run["output"]["seconds"] for run in runs} == {6.0}
    assert moved <= 3


KILL = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if int(folder.name) != os.getpid() and b"aiki" in (folder / "cmdline").read_bytes():
        os.kill(int(folder.name), signal.SIGKILL)
"""


async def _holders(service: Service, ids: list[str]) -> dict[str, list[str]]:
    """The runs of each worker, once all are in hand."""
    found: dict[str, list[str]] = {}

    async def all_held() -> bool:
        found.clear()
        for run in await service.runs(ids):
            if run["worker"] is not None:
                found.setdefault(run["worker"], []).append(run["id"])
        return sum(map(len, found.values())) == len(ids)

    await time_until("all runs are in hand", all_held, 20)
    return found

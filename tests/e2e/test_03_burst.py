"""Scenario 3: a burst at a pool that has no pod, and back to none."""

from __future__ import annotations

import asyncio
import time

import pytest

from e2e.conftest import Figure, pool
from e2e.kube import Kube, named, time_until
from e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

RUNS = 400


async def test_a_burst_is_met_at_once_and_forgotten_soon(aiki: Kube, service: Service, figure: Figure) -> None:
    spec = pool(concurrency=20, maxReplicas=10, autoscaling={"stabilizationSeconds": 10})
    await aiki.apply(named("AikiWorkerPool", "burst", spec))
    await aiki.ready("AikiWorkerPool", "burst")
    await time_until("the pool is at zero", lambda: _is(aiki, 0), 60)

    began = time.monotonic()
    starting = asyncio.create_task(service.start("napping", [2.0] * RUNS, pool="burst"))
    written = await time_until("the size is written", lambda: _grown(aiki), 10, every=0.02)
    ids = await starting
    figure(f"3 {RUNS} two-second tasks, pool at zero: first run to scale write", f"{written:.2f} s (must be at most 2)")
    assert written <= 2

    await service.finished(ids, 120)
    figure("3 first run to all done", f"{time.monotonic() - began:.1f} s")
    await time_until("the pool is at zero again", lambda: _is(aiki, 0), 90)
    figure("3 first run to zero pods", f"{time.monotonic() - began:.1f} s")
    interrupted = await service.interrupted(ids)
    figure("3 tasks interrupted", f"{len(interrupted)} of {RUNS} (must be 0)")
    assert not interrupted
    for reason in ("ScaledUp", "Draining", "ScaledDown"):
        assert await aiki.told("burst", reason)
    await aiki.kubectl("delete", "aikiworkerpool", "burst")


async def _is(kube: Kube, size: int) -> bool:
    return await kube.replicas("burst") == size


async def _grown(kube: Kube) -> bool:
    return await kube.replicas("burst") > 0

"""Scenario 4: a timer is due, and the pool that must serve it has no pod."""

from __future__ import annotations

import time

import pytest

from e2e.conftest import Figure, pool
from e2e.kube import Kube, is_ready, named, time_until
from e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECONDS = 90.0


async def test_a_pod_is_ready_before_a_known_timer_is_due(aiki: Kube, service: Service, figure: Figure) -> None:
    await aiki.apply(named("AikiWorkerPool", "timer", pool(concurrency=5, autoscaling={"stabilizationSeconds": 5})))
    await aiki.ready("AikiWorkerPool", "timer")
    (run,) = await service.start("sleeping", [SECONDS], pool="timer")

    async def sleeps() -> bool:
        return bool((await service.run(run))["status"] == "waiting")

    await time_until("the run sleeps", sleeps, 30)
    due = time.monotonic() + SECONDS  # a little late, in our disfavour

    async def empty() -> bool:
        return not await aiki.pods("aiki.dev/pool=timer")

    async def served() -> bool:
        return any(is_ready(pod) for pod in await aiki.pods("aiki.dev/pool=timer"))

    await time_until("the pool has no pod", empty, 60)
    await time_until("a pod is ready", served, SECONDS)
    ahead = due - time.monotonic()
    figure("4 pod ready before the timer is due", f"{ahead:.1f} s (must be more than 0)")
    assert ahead > 0
    late = (await service.finished([run], 60))[0]["output"]["late"]
    figure("4 lateness of the timer", f"{late * 1000:.0f} ms")
    assert 0 <= late < 2
    await aiki.kubectl("delete", "aikiworkerpool", "timer")

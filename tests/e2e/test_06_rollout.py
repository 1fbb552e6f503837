"""Scenario 6: scale-ins and roll-outs in the middle of long tasks, and builds that are broken."""

from __future__ import annotations

import pytest

from e2e.conftest import WORKLOAD_2, Figure, pool
from e2e.kube import Kube, named, time_until
from e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

LONG = 60.0


async def test_long_tasks_outlive_scale_ins_and_a_new_image(aiki: Kube, service: Service, figure: Figure) -> None:
    spec = pool(concurrency=2, maxReplicas=6, revisionLimit=0, autoscaling={"stabilizationSeconds": 0})
    await aiki.apply(named("AikiWorkerPool", "long", spec))
    await aiki.ready("AikiWorkerPool", "long")
    old = await _serving(aiki, "long")
    ids = await service.start("napping", [LONG] * 12, pool="long")
    await _in_hand(service, ids)
    await time_until("six workers are there", lambda: _six(service, "long"), 30)

    drained = 0
    for size in (5, 4, 3, 2, 1, 5, 4, 3, 2, 1):
        await aiki.kubectl("scale", "aikiworkerpool/long", "--replicas=6")
        await time_until("nobody drains", lambda: _drains(service, "long", 0), 10)
        await aiki.kubectl("scale", "aikiworkerpool/long", f"--replicas={size}")
        await time_until(f"{6 - size} workers drain", lambda: _drains(service, "long", 6 - size), 10)  # noqa: B023 - awaited within the turn
        drained += 6 - size
    await aiki.kubectl("patch", "aikiworkerpool/long", "--type=merge", "--patch", '{"spec":{"replicas":null}}')

    await aiki.apply(named("AikiWorkerPool", "long", {**spec, "image": WORKLOAD_2}))
    took_over = await time_until("the new build serves", lambda: _serves_another(aiki, "long", old), 60)
    (fresh,) = await service.finished(await service.start("napping", [0.0], pool="long"), 60)
    assert fresh["output"]["build"] == await _serving(aiki, "long")
    runs = await service.finished(ids, 90)
    assert {run["output"]["build"] for run in runs} == {old}
    gone = await time_until("the old build is deleted", lambda: _only_one(aiki, "long"), 60)
    interrupted = await service.interrupted(ids)
    figure(
        "6 ten scale-ins and a new image under 60 s tasks: interrupted", f"{len(interrupted)} of {len(ids)}, {drained} drains (must be 0)"
    )
    figure("6 new image: serving after, old build deleted after its last task", f"{took_over:.1f} s, {gone:.1f} s")
    assert not interrupted
    await aiki.kubectl("delete", "aikiworkerpool", "long")


async def test_a_pinned_run_stays_on_its_build(aiki: Kube, service: Service, figure: Figure) -> None:
    spec = pool(concurrency=5, versioning="Pinned", revisionLimit=0, autoscaling={"stabilizationSeconds": 0})
    await aiki.apply(named("AikiWorkerPool", "pinned", spec))
    await aiki.ready("AikiWorkerPool", "pinned")
    old = await _serving(aiki, "pinned")
    (sleeper,) = await service.start("sleeping", [45.0], pool="pinned")
    ids = await service.start("napping", [20.0] * 4, pool="pinned")
    await _in_hand(service, ids)

    await aiki.apply(named("AikiWorkerPool", "pinned", {**spec, "image": WORKLOAD_2}))
    await time_until("the new build serves", lambda: _serves_another(aiki, "pinned", old), 60)
    (fresh,) = await service.finished(await service.start("napping", [0.0], pool="pinned"), 60)
    assert fresh["output"]["build"] == await _serving(aiki, "pinned")
    assert {run["output"]["build"] for run in await service.finished(ids, 60)} == {old}

    async def old_sleeps() -> bool:
        builds = {build["name"]: build for build in await _builds(aiki, "pinned")}
        return old in builds and builds[old]["replicas"] == 0 and builds[old]["openRuns"] == 1

    await time_until("the old build holds no pod while its run sleeps", old_sleeps, 30)
    woken = (await service.finished([sleeper], 60))[0]["output"]
    assert woken["build"] == old
    gone = await time_until("the old build is deleted", lambda: _only_one(aiki, "pinned"), 60)
    interrupted = await service.interrupted([*ids, sleeper])
    figure("6 Pinned: interrupted; lateness on the old build; it is gone after", f"{len(interrupted)}; {woken['late']:.2f} s; {gone:.1f} s")
    assert not interrupted
    await aiki.kubectl("delete", "aikiworkerpool", "pinned")


BROKEN = [
    ({"command": ["python3", "-c", "import flowers"]}, "CrashLoop", "ModuleNotFoundError: No module named 'flowers'"),
    ({"image": "example.com/nothing:9"}, "ImagePullFailed", "example.com/nothing:9"),
    (
        {"template": {"spec": {"containers": [{"name": "worker", "resources": {"limits": {"memory": "much"}}}]}}},
        "ManifestRefused",
        "quantities",
    ),
]


@pytest.mark.parametrize("broken", BROKEN, ids=[reason for _, reason, _ in BROKEN])
async def test_a_broken_build_takes_nothing_over(
    aiki: Kube, service: Service, figure: Figure, broken: tuple[dict[str, object], str, str]
) -> None:
    change, reason, says = broken
    await aiki.apply(named("AikiWorkerPool", "broken", pool()))
    await aiki.ready("AikiWorkerPool", "broken")
    await aiki.apply(named("AikiWorkerPool", "broken", {**pool(), **change}))

    async def stalled() -> bool:
        condition = await aiki.condition("AikiWorkerPool", "broken", "Stalled")
        return condition.get("status") == "True" and condition["reason"] == reason

    took = await time_until(f"the pool is stalled by {reason}", stalled, 90)
    message = (await aiki.condition("AikiWorkerPool", "broken", "Stalled"))["message"]
    figure(f"6 broken build, {reason}: said after", f"{took:.1f} s: {message[:160]}")
    assert says in message
    await service.finished(await service.start("napping", [0.0] * 5, pool="broken"), 60)
    await aiki.apply(named("AikiWorkerPool", "broken", pool()))
    await aiki.ready("AikiWorkerPool", "broken")
    await time_until("nothing is left of the broken build", lambda: _only_one(aiki, "broken"), 60)
    await aiki.kubectl("delete", "aikiworkerpool", "broken")


async def _builds(kube: Kube, name: str) -> list[dict[str, object]]:
    body = await kube.get("AikiWorkerPool", name) or {}
    found: list[dict[str, object]] = body["status"]["builds"]
    return found


async def _serving(kube: Kube, name: str) -> str:
    body = await kube.get("AikiWorkerPool", name) or {}
    return str(body["status"]["servingBuild"])


async def _serves_another(kube: Kube, name: str, old: str) -> bool:
    return await _serving(kube, name) != old


async def _only_one(kube: Kube, name: str) -> bool:
    return len(await kube.all("Deployment", f"aiki.dev/pool={name}")) == 1


async def _drains(service: Service, name: str, count: int) -> bool:
    return [worker["draining"] for worker in (await service.load(name))["workers"]].count(True) == count


async def _six(service: Service, name: str) -> bool:
    return len((await service.load(name))["workers"]) == 6


async def _in_hand(service: Service, ids: list[str]) -> None:
    async def all_running() -> bool:
        return all(run["worker"] is not None for run in await service.runs(ids))

    await time_until("all runs are in hand", all_running, 40)

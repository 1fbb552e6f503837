"""Scenario 6: a build takes over in steps, over the death of the operator; a bad one is held; the way back is at once."""

from __future__ import annotations

import re
import shlex

import pytest

from e2e.conftest import Figure, pool
from e2e.kube import Json, Kube, named, time_until
from e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROLLOUT: Json = {"steps": [{"percent": 50, "pause": "5s"}, {"percent": 100}], "gate": {"maxFailedPercent": 20, "minRuns": 3}}


def build(name: str, *, fails: bool = False) -> dict[str, object]:
    """The spec with another build of the same image."""
    env = [{"name": "NAME", "value": name}] + ([{"name": "IS_BAD", "value": "1"}] if fails else [])
    return pool(concurrency=20, env=env, rollout=ROLLOUT)


async def stage(kube: Kube) -> tuple[int, str] | None:
    """The step of the roll-out, and what it does."""
    found = ((await kube.get("AikiWorkerPool", "steps") or {}).get("status") or {}).get("rollout")
    return None if found is None else (found["step"], found["stage"])


async def serving(kube: Kube) -> str:
    return str((await kube.get("AikiWorkerPool", "steps") or {})["status"]["servingBuild"])


async def test_a_good_build_takes_its_steps_and_a_bad_one_is_held(aiki: Kube, service: Service, figure: Figure) -> None:
    await aiki.apply(named("AikiWorkerPool", "steps", build("one")))
    await aiki.ready("AikiWorkerPool", "steps")
    first = await serving(aiki)

    await aiki.apply(named("AikiWorkerPool", "steps", build("two")))
    began = await time_until("the first step begins", lambda: stage(aiki), 60)
    runs = await service.finished(await service.start("napping", [0.0] * 40, pool="steps"), 60)
    used = {run["output"]["build"] for run in runs}
    assert len(used) == 2
    assert first in used

    async def paused() -> bool:
        return await stage(aiki) == (2, "Paused")

    await time_until("the second step waits for a person", paused, 60)
    await aiki.kubectl("delete", "pod", "-l", "app.kubernetes.io/component=operator", "--wait=false")  # another goes on where it was
    said = (await aiki.condition("AikiWorkerPool", "steps", "RolloutComplete"))["message"]
    assert "2/2 paused" in await aiki.kubectl("get", "akp", "steps")
    typed = re.search(r"`kubectl (annotate [^`]+)`", said)
    assert typed is not None, said
    await aiki.run("kubectl", *shlex.split(typed[1]))
    await aiki.ready("AikiWorkerPool", "steps")
    second = await serving(aiki)
    assert second == (used - {first}).pop()
    states = {one["name"]: one["state"] for one in (await aiki.get("AikiWorkerPool", "steps") or {})["status"]["builds"]}
    assert states[second] == "Serving"
    figure("6 steps: the first one after", f"{began:.1f} s")

    await aiki.apply(named("AikiWorkerPool", "steps", build("three", fails=True)))
    await time_until("the first step of the bad build begins", lambda: stage(aiki), 60)
    ids = await service.start("straining", [None] * 40, pool="steps")

    async def held() -> bool:
        return await stage(aiki) == (1, "Held")

    took = await time_until("the bad build is held", held, 90)
    stalled = await aiki.condition("AikiWorkerPool", "steps", "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RolloutHeld")
    figure("6 bad build: held after", f"{took:.1f} s: {stalled['message'][:140]}")
    assert [event["type"] for event in await aiki.told("steps", "RolloutHeld")] == ["Warning"]
    later = await service.finished(await service.start("napping", [0.0] * 20, pool="steps"), 60)
    assert {run["output"]["build"] for run in later} == {second}

    await aiki.apply(named("AikiWorkerPool", "steps", build("two")))  # the way back
    back = await aiki.ready("AikiWorkerPool", "steps")
    # Those that the bad build tried again and again as well; the first build's worker may have read some before it was told to drain.
    assert {run["output"] for run in await service.finished(ids, 120)} <= {first, second}
    assert await stage(aiki) is None
    figure("6 the former build again: everything well after", f"{back:.1f} s")
    await aiki.kubectl("delete", "aikiworkerpool", "steps")


async def test_a_former_build_is_kept_and_kubectl_says_what_it_cannot_undo(aiki: Kube) -> None:
    one, two = (pool(env=[{"name": "NAME", "value": name}]) for name in ("one", "two"))
    await aiki.apply(named("AikiWorkerPool", "former", one))
    await aiki.ready("AikiWorkerPool", "former")
    await aiki.apply(named("AikiWorkerPool", "former", two))

    async def kept() -> bool:
        builds = (await aiki.get("AikiWorkerPool", "former") or {})["status"]["builds"]
        return [build["state"] for build in builds] == ["Serving", "Kept"]

    await time_until("the former build is kept", kept, 90)
    refused = await aiki.kubectl("rollout", "undo", "aikiworkerpool/former", ok=False)
    assert "no " in refused, refused
    before = {one["metadata"]["name"] for one in await aiki.all("Deployment", "aiki.dev/pool=former")}
    await aiki.apply(named("AikiWorkerPool", "former", one))
    await time_until("the former build serves, and the other one is kept", kept, 90)
    assert {one["metadata"]["name"] for one in await aiki.all("Deployment", "aiki.dev/pool=former")} == before
    await aiki.kubectl("delete", "aikiworkerpool", "former")


@pytest.mark.parametrize(
    ("rollout", "says"),
    [
        ({"steps": [{"percent": 50, "pause": "1m"}, {"percent": 10}]}, "must not be smaller than that of the step before it"),
        ({"steps": [{"percent": 50, "pause": "soon"}]}, "pause"),
        ({"steps": []}, "steps"),
        ({"steps": [{"percent": 101}]}, "percent"),
        ({"steps": [{"percent": 1}], "gate": {}}, "maxFailedPercent"),
    ],
)
async def test_steps_that_cannot_be_are_refused_where_they_are_typed(aiki: Kube, rollout: Json, says: str) -> None:
    assert says in await aiki.apply(named("AikiWorkerPool", "refused", pool(rollout=rollout)), ok=False)
    assert await aiki.get("AikiWorkerPool", "refused") is None

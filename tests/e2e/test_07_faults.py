"""Scenario 7: Valkey, Postgres, the operator and the server go away under load, and nothing is lost.

Services repeat a start that failed, with the same key: that is what keys are for. While the server is rolled not even that
is needed.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from secrets import token_hex

import pytest
import pytest_asyncio

from e2e.conftest import Figure, pool
from e2e.kube import Kube, is_ready, named, time_until
from e2e.service import Load, Service, reach, steady

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAP = 0.2


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def steadfast(aiki: Kube) -> AsyncIterator[str]:
    """A pool that has no reason to change its size."""
    spec = pool(concurrency=50, minReplicas=2, maxReplicas=2, autoscaling={"stabilizationSeconds": 5})
    await aiki.apply(named("AikiWorkerPool", "steadfast", spec))
    await aiki.ready("AikiWorkerPool", "steadfast")
    await time_until("two pods are ready", lambda: _ready(aiki, "aiki.dev/pool=steadfast", 2), 60)
    yield "steadfast"
    await aiki.kubectl("delete", "aikiworkerpool", "steadfast")


@pytest.mark.parametrize("victim", ["redis", "postgres"])
async def test_a_database_dies_under_load(aiki: Kube, service: Service, steadfast: str, figure: Figure, victim: str) -> None:
    async with Watched(aiki, steadfast) as sizes, steady(service, "napping", NAP, per_second=10, patient=True, pool=steadfast) as load:
        await load.goes_on(20)
        await aiki.kubectl("delete", "pod", f"aiki-{victim}-0", "--force", "--grace-period=0", ok=False)
        began = time.monotonic()
        await time_until(f"{victim} is back", lambda: _ready(aiki, f"app.kubernetes.io/component={victim}", 1), 90)
        back = time.monotonic() - began
        await load.goes_on(50)
    await _nothing_lost(service, load)
    figure(
        f"7 {victim} killed: back after; starts; repeats; slowest start",
        f"{back:.1f} s; {len(load.ids)}; {load.repeats}; {load.slowest:.1f} s",
    )
    assert sizes == {2}


async def test_what_a_stranger_does_is_undone(aiki: Kube, figure: Figure) -> None:
    await aiki.kubectl("scale", "statefulset/aiki-redis", "--replicas=0")

    async def undone() -> bool:
        body = await aiki.get("StatefulSet", "aiki-redis") or {}
        return bool(body["spec"]["replicas"] == 1)

    took = await time_until("the operator undoes what it did not do", undone, 30)
    figure("7 a stranger's scaling of a StatefulSet: undone after", f"{took:.1f} s")
    await time_until("Valkey is back", lambda: _ready(aiki, "app.kubernetes.io/component=redis", 1), 60)


@pytest.mark.parametrize("silent", ["Redis", "server"])
async def test_an_idle_pool_is_held_while_its_load_is_not_known(aiki: Kube, figure: Figure, silent: str) -> None:
    name, held = f"unsure-{silent.lower()}", 12.0
    await aiki.apply(named("AikiWorkerPool", name, pool(replicas=2, autoscaling={"stabilizationSeconds": 2})))
    await time_until("two pods are ready", lambda: _ready(aiki, f"aiki.dev/pool={name}", 2), 60)
    await _silence(aiki, silent)
    if silent == "server":
        await time_until("the condition says that it is silent", lambda: _unreachable(aiki, name), 60)
    reason = "RedisUnavailable" if silent == "Redis" else "LoadUnknown"
    await aiki.kubectl("patch", f"aikiworkerpool/{name}", "--type=merge", "--patch", '{"spec":{"replicas":null}}')

    async def says_so() -> bool:
        return (await aiki.condition("AikiWorkerPool", name, "ScalingActive")).get("reason") == reason

    await time_until(f"the condition says {reason}", says_so, 30)
    async with Watched(aiki, name) as sizes:
        await asyncio.sleep(held)
    assert sizes == {2}
    if silent == "server":
        await aiki.kubectl("patch", "aikiserver/aiki", "--type=merge", "--patch", '{"spec":{"replicas":1}}')
    gone = await time_until("the pool goes to zero", lambda: _empty(aiki, name), 90)
    figure(f"7 {silent} silent for {held:.0f} s, idle pool with nothing to do: size; at zero after its return", f"held; {gone:.1f} s")
    await aiki.kubectl("delete", f"aikiworkerpool/{name}")


async def _silence(kube: Kube, what: str) -> None:
    """Redis answers nobody for a while; there is no server until there is one again."""
    if what == "server":
        await kube.kubectl("patch", "aikiserver/aiki", "--type=merge", "--patch", '{"spec":{"replicas":0}}')
        return
    secret = await kube.get("Secret", "aiki-redis") or {}
    password = base64.b64decode(secret["data"]["password"]).decode()
    await kube.kubectl("exec", "aiki-redis-0", "--", "valkey-cli", "--no-auth-warning", "-a", password, "client", "pause", "25000", "all")


async def _unreachable(kube: Kube, name: str) -> bool:
    return (await kube.condition("AikiWorkerPool", name, "ServerReachable")).get("status") == "False"


async def _empty(kube: Kube, name: str) -> bool:
    return await kube.replicas(name) == 0


async def test_the_operator_dies_under_load(aiki: Kube, service: Service, steadfast: str, figure: Figure) -> None:
    async with Watched(aiki, steadfast) as sizes, steady(service, "napping", NAP, per_second=10, pool=steadfast) as load:
        lease = await aiki.get("Lease", "aiki-operator") or {}
        holder = lease["spec"]["holderIdentity"]
        await aiki.kubectl("delete", "pod", holder, "--force", "--grace-period=0", ok=False)
        taken = await time_until("the other replica leads", lambda: _led_by_another(aiki, holder), 60)
        await load.goes_on(30)
    await _nothing_lost(service, load)
    figure("7 operator killed: the other replica leads after; failed starts", f"{taken:.1f} s; {len(load.failures)}")
    assert sizes == {2}
    assert not load.failures


async def test_the_server_is_rolled_without_a_failed_request(aiki: Kube, service: Service, steadfast: str, figure: Figure) -> None:
    async with Watched(aiki, steadfast) as sizes, steady(service, "napping", NAP, per_second=20, pool=steadfast) as load:
        began = time.monotonic()
        patch = {"spec": {"env": [{"name": "ROLLED", "value": str(began)}]}}
        await aiki.kubectl("patch", "aikiserver/aiki", "--type=merge", "--patch", json.dumps(patch))
        await aiki.ready("AikiServer", "aiki", 120)
        rolled = time.monotonic() - began
        await load.goes_on(40)
    await _nothing_lost(service, load)
    figure(
        "7 server rolled: took; starts meanwhile; failed; slowest",
        f"{rolled:.1f} s; {len(load.ids)}; {len(load.failures)} (must be 0); {load.slowest:.2f} s",
    )
    assert sizes == {2}
    assert not load.failures, load.failures[:3]


async def test_a_changed_secret_restarts_what_uses_it(aiki: Kube, steadfast: str, figure: Figure) -> None:
    users = "aiki.dev/server=aiki,app.kubernetes.io/component in (server,worker)"
    before = {pod["metadata"]["name"] for pod in await aiki.pods(users)}
    token = base64.b64encode(token_hex(32).encode()).decode()
    began = time.monotonic()
    await aiki.kubectl("patch", "secret/aiki-token", "--type=merge", "--patch", json.dumps({"data": {"token": token}}))

    async def all_new() -> bool:
        pods = await aiki.pods(users)
        return all(is_ready(pod) for pod in pods) and len(pods) == len(before) and not before & {pod["metadata"]["name"] for pod in pods}

    await time_until("server and workers run with the new token", all_new, 120)
    async with reach(aiki) as service:
        await service.finished(await service.start("napping", [0.0], pool=steadfast), 30)
    figure("7 API token rotated: server and workers restarted, a run done, after", f"{time.monotonic() - began:.1f} s")


async def _nothing_lost(service: Service, load: Load) -> None:
    runs = await service.finished(load.ids, 120)
    assert len({run["id"] for run in runs}) == len(load.ids)
    assert all(run["output"]["seconds"] == NAP for run in runs)


class Watched:
    """The sizes that the pool's Deployments were asked to have while the block lasted."""

    def __init__(self, kube: Kube, name: str) -> None:
        self._kube, self._name = kube, name
        self._sizes: set[int] = set()

    async def __aenter__(self) -> set[int]:
        self._task = asyncio.create_task(self._look())
        return self._sizes

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            self._sizes.add(await self._kube.replicas(self._name))
            await asyncio.sleep(0.5)


async def _ready(kube: Kube, selector: str, count: int) -> bool:
    return [is_ready(pod) for pod in await kube.pods(selector)] == [True] * count


async def _led_by_another(kube: Kube, holder: str) -> bool:
    lease = await kube.get("Lease", "aiki-operator") or {}
    return lease["spec"]["holderIdentity"] not in ("", holder)

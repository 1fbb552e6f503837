"""Scenario 11: two hundred pools, and what the operator needs for them.

The pools are idle, as most are most of the time; their builds are made known to the server by hand, for two hundred
pods that start would measure the node and not the operator.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

import pytest

from aiki_operator.spec.pool import parse_pool
from e2e.conftest import Figure, pool
from e2e.kube import Kube, named, time_until
from e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

POOLS = 200
SECONDS = 30.0


async def test_two_hundred_pools_are_cheap(aiki: Kube, service: Service, figure: Figure) -> None:
    names = [f"many-{number:03}" for number in range(POOLS)]
    await aiki.apply(*(named("AikiWorkerPool", name, pool(replicas=0)) for name in names))
    build = parse_pool({**named("AikiWorkerPool", "x", pool(), namespace="x", uid="x")}).build
    await asyncio.gather(*(_known(aiki, service, name, build) for name in names))
    await aiki.apply(*(named("AikiWorkerPool", name, pool()) for name in names))

    async def all_ready() -> bool:
        pools = [body for body in await aiki.all("AikiWorkerPool") if body["metadata"]["name"] in names]
        return all(_settled(body) for body in pools) and len(pools) == POOLS

    await time_until(f"{POOLS} pools are ready", all_ready, 90, every=1)
    await time_until("Kubernetes has taken note of all Deployments", lambda: _quiet(aiki), 120, every=2)
    holder = ((await aiki.get("Lease", "aiki-operator")) or {})["spec"]["holderIdentity"]
    await asyncio.sleep(5)
    server = (await aiki.pods("app.kubernetes.io/component=server"))[0]["metadata"]["name"]
    before, serving, began = await _metrics(aiki, holder), await _cpu_seconds(aiki, server), time.monotonic()
    await asyncio.sleep(SECONDS)
    after, served, seconds = await _metrics(aiki, holder), await _cpu_seconds(aiki, server), time.monotonic() - began

    cpu = (after["process_cpu_seconds_total"] - before["process_cpu_seconds_total"]) / seconds
    memory = after["process_resident_memory_bytes"] / 2**20
    requests = (after["aiki_operator_api_requests_total"] - before["aiki_operator_api_requests_total"]) / seconds
    figure(
        f"11 {POOLS} pools: operator's CPU, memory, API requests",
        f"{cpu:.0%} of a core (aim 25), {memory:.0f} MB (aim 200), {requests:.1f} a second",
    )
    figure(f"11 {POOLS} pools: the server's CPU, asked once a second", f"{(served - serving) / seconds:.0%} of a core")
    turns = after["aiki_operator_reconcile_seconds_count"] - before["aiki_operator_reconcile_seconds_count"]
    figure(f"11 {POOLS} pools: turns", f"{turns / seconds:.1f} a second")
    assert cpu <= 0.25
    assert memory <= 200
    assert requests <= 5
    await aiki.kubectl("delete", "aikiworkerpools", *names, "--wait=false")


async def _known(kube: Kube, service: Service, name: str, build: str) -> None:
    worker = {
        "worker": f"{name}-x",
        "pool": name,
        "build": build,
        "concurrency": 10,
        "workflows": [{"workflow": f"{name}-w", "version": "1"}],
    }
    status, answer = await service.call("POST", "/worker/register", worker)
    assert status == 200, answer
    await service.call("POST", "/worker/deregister", {"worker": f"{name}-x"})
    await service.call("POST", f"/pools/{name}/builds/{build}/promote")
    status_path = f"/apis/aiki.dev/v1alpha1/namespaces/aiki/aikiworkerpools/{name}/status"
    await kube.cluster._call(
        "PATCH", "AikiWorkerPool", status_path, body={"status": {"servingBuild": build}}, content="application/merge-patch+json"
    )


async def _quiet(kube: Kube) -> bool:
    """Its own controllers are slower than ours: what is measured is a pool at rest, not their work."""
    found = await kube.all("Deployment", "app.kubernetes.io/component=worker")
    return all(
        one.get("status", {}).get("observedGeneration") == one["metadata"]["generation"] and len(one["status"].get("conditions", [])) >= 2
        for one in found
    )


def _settled(body: dict[str, Any]) -> bool:
    conditions = {one["type"]: one for one in body.get("status", {}).get("conditions", [])}
    ready = conditions.get("Ready", {})
    return bool(ready.get("status") == "True" and ready.get("observedGeneration") == body["metadata"]["generation"])


async def _cpu_seconds(kube: Kube, pod: str) -> float:
    """What the pod's first process has used (proc_pid_stat(5), fields 14 and 15, in hundredths)."""
    fields = (await kube.kubectl("exec", pod, "--", "cat", "/proc/1/stat")).rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def _metrics(kube: Kube, pod: str) -> dict[str, float]:
    """The sums of the operator's metrics."""
    text = await kube.kubectl("get", "--raw", f"/api/v1/namespaces/aiki/pods/{pod}:8081/proxy/metrics")
    found: dict[str, float] = {}
    for name, value in re.findall(r"^(\w+)(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + float(value)
    return found

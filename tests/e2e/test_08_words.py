"""Scenario 8: what a person types, and what they are told: listings, explanations, waits, and every rule of the schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.conftest import Figure, pool
from e2e.kube import Kube, named, time_until

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = {"secretRef": {"name": "x"}}
SERVER_RULES: list[tuple[dict[str, Any], str]] = [
    ({"database": {"type": "External"}}, "type External needs it"),
    ({"database": {"type": "Managed", "external": SECRET}}, "database.external belongs to type External"),
    ({"database": {"type": "CloudNativePG"}}, "type CloudNativePG needs it"),
    ({"database": {"type": "External", "external": SECRET, "managed": {}}}, "database.managed belongs to type Managed"),
    ({"redis": {"type": "External"}}, "type External needs it"),
    ({"redis": {"type": "External", "external": SECRET, "managed": {}}}, "redis.managed belongs to type Managed"),
    ({"replicas": -1}, "should be greater than or equal to 0"),
    ({"ingress": {}}, "an ingress has one host, or a list of hosts"),
    ({"colour": "blue"}, 'unknown field "spec.colour"'),
]
POOL_RULES: list[tuple[dict[str, Any], str]] = [
    ({"minReplicas": 5, "maxReplicas": 2}, "minReplicas must not be larger than maxReplicas"),
    ({"replicas": 50}, "replicas must not be larger than maxReplicas"),
    ({"env": [{"name": "AIKI_URL", "value": "x"}]}, "are set by the operator"),
    ({"image": ""}, "should be at least 1 chars long"),
    ({"concurrency": 0}, "should be greater than or equal to 1"),
    ({"versioning": "Sometimes"}, 'supported values: "ByVersion", "Pinned"'),
    ({"autoscaling": {"utilizationPercent": 101}}, "should be less than or equal to 100"),
]
CHANGES: list[tuple[str, str]] = [
    ('{"spec":{"serverRef":{"name":"other"}}}', "serverRef cannot be changed"),
    ('{"spec":{"pool":"other"}}', "pool cannot be changed"),
]


@pytest.mark.parametrize(("spec", "says"), SERVER_RULES)
async def test_a_bad_server_is_refused_with_a_reason(aiki: Kube, spec: dict[str, Any], says: str) -> None:
    assert says in await aiki.apply(named("AikiServer", "bad", spec), ok=False)


@pytest.mark.parametrize(("spec", "says"), POOL_RULES)
async def test_a_bad_pool_is_refused_with_a_reason(aiki: Kube, spec: dict[str, Any], says: str) -> None:
    assert says in await aiki.apply(named("AikiWorkerPool", "bad", pool(**spec)), ok=False)


async def test_what_cannot_change_says_so(aiki: Kube) -> None:
    await aiki.apply(named("AikiWorkerPool", "words", pool()))
    for patch, says in CHANGES:
        assert says in await aiki.kubectl("patch", "aikiworkerpool/words", "--type=merge", "--patch", patch, ok=False)
    said = await aiki.kubectl(
        "patch", "aikiserver/aiki", "--type=merge", "--patch", '{"spec":{"database":{"type":"CloudNativePG"}}}', ok=False
    )
    assert "database.type cannot be changed" in said
    for name in ("Upper", "x" * 41, "9lives"):
        said = await aiki.apply(named("AikiWorkerPool", name, pool()), ok=False)
        assert "Invalid value" in said
    assert "cannot end with -postgres or -redis" in await aiki.apply(named("AikiServer", "aiki-redis", {}), ok=False)
    assert "at most 40" in await aiki.apply(named("AikiWorkerPool", "x" * 41, pool()), ok=False)


async def test_every_field_is_explained(aiki: Kube, figure: Figure) -> None:
    fields = 0
    for kind in ("aikiserver", "aikiworkerpool"):
        said = await aiki.kubectl("explain", f"{kind}.spec", "--recursive")
        fields += sum(1 for line in said.splitlines() if "\t<" in line)
        assert "<no description>" not in await aiki.kubectl("explain", f"{kind}.spec")
    said = await aiki.kubectl("explain", "aikiworkerpool.spec.maxReplicas")
    assert "The pool is never larger" in said
    figure("8 fields that kubectl explains", str(fields))


async def test_scale_and_wait_and_listings(aiki: Kube) -> None:
    await aiki.apply(named("AikiWorkerPool", "words", pool()))
    await aiki.kubectl("wait", "--for=condition=Ready", "aikiworkerpool/words", "--timeout=60s")
    await aiki.kubectl("scale", "akp/words", "--replicas=2")
    await time_until("two pods", lambda: _pods(aiki, 2), 30)

    async def fixed() -> bool:
        return (await aiki.condition("AikiWorkerPool", "words", "ScalingActive")).get("reason") == "FixedSize"

    await time_until("the condition says that the size is fixed", fixed, 10)
    said = await aiki.kubectl("scale", "akp/words", "--replicas=11", ok=False)
    assert "replicas must not be larger than maxReplicas" in said
    await aiki.kubectl("get", "aikiworkerpools")
    listing = await aiki.kubectl("get", "aiki")
    assert "aikiserver.aiki.dev/aiki" in listing
    assert "aikiworkerpool.aiki.dev/words" in listing
    assert (await aiki.kubectl("get", "akp", "words")).split()[:6] == ["NAME", "READY", "REASON", "PODS", "QUEUED", "OLDEST"]


async def test_a_pool_without_its_server_says_so(aiki: Kube) -> None:
    await aiki.apply(named("AikiWorkerPool", "orphan", {**pool(), "serverRef": {"name": "nobody"}}))

    async def says() -> bool:
        return (await aiki.condition("AikiWorkerPool", "orphan", "Ready")).get("reason") == "ServerNotFound"

    await time_until("the condition names the missing server", says, 10)
    assert "There is no AikiServer nobody" in (await aiki.condition("AikiWorkerPool", "orphan", "Stalled"))["message"]
    await aiki.kubectl("delete", "aikiworkerpool", "orphan", "words")


async def test_a_pool_whose_name_is_taken_says_so(aiki: Kube) -> None:
    await aiki.apply(named("AikiWorkerPool", "first", pool(pool="shared")))
    await aiki.ready("AikiWorkerPool", "first")
    await aiki.apply(named("AikiWorkerPool", "second", pool(pool="shared")))

    async def says() -> bool:
        return (await aiki.condition("AikiWorkerPool", "second", "Stalled")).get("reason") == "PoolTaken"

    await time_until("the condition says that the pool is taken", says, 10)
    assert "AikiWorkerPool first" in (await aiki.condition("AikiWorkerPool", "second", "Ready"))["message"]
    await aiki.kubectl("delete", "aikiworkerpool", "first")
    await aiki.ready("AikiWorkerPool", "second")
    await aiki.kubectl("delete", "aikiworkerpool", "second")


@pytest.mark.parametrize(
    ("name", "wrong", "field"),
    [
        ("typo", {"template": {"spec": {"nodeSelectr": {"a": "b"}}}}, "spec.template.spec.nodeSelectr"),
        ("lots", {"resources": {"requests": {"cpu": "lots"}}}, "spec.resources.requests.cpu: lots"),
    ],
)
async def test_a_wrong_field_is_named_and_the_serving_build_is_scaled(aiki: Kube, name: str, wrong: dict[str, Any], field: str) -> None:
    await aiki.apply(named("AikiWorkerPool", name, pool()))
    await aiki.ready("AikiWorkerPool", name)
    patch = json.dumps({"spec": {"replicas": 2, **wrong}})
    await aiki.kubectl("patch", f"aikiworkerpool/{name}", "--type=merge", "--patch", patch)

    async def stalled() -> bool:
        return (await aiki.condition("AikiWorkerPool", name, "Stalled")).get("reason") == "ManifestRefused"

    async def scaled() -> bool:
        return await aiki.replicas(name) == 2

    await time_until("the condition says that the manifest is refused", stalled, 15)
    assert field in (await aiki.condition("AikiWorkerPool", name, "Ready"))["message"]
    await time_until("the serving build has its size", scaled, 15)
    assert [one["type"] for one in await aiki.told(name, "ManifestRefused")] == ["Warning"]
    await aiki.kubectl("delete", f"aikiworkerpool/{name}")


async def _pods(kube: Kube, count: int) -> bool:
    return len(await kube.pods("aiki.dev/pool=words")) == count

"""Pools in other Kubernetes namespaces than their server, and in other Aiki namespaces than the default one."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from aiki.protocol import figures_token
from aiki_operator.kubernetes.cache import Key
from aiki_operator.kubernetes.client import Cluster
from aiki_operator.manifests import network, secret
from aiki_operator.manifests.secret import decode
from aiki_operator.names import POOL_KIND, SERVER_NAMESPACE_LABEL, WORKER_HEALTH_PORT
from aiki_operator.plan.pool.state import NOT_ALLOWED, LoadUnavailable
from aiki_operator.reconcile import loop
from aiki_operator.reconcile.access import ServerAccess
from aiki_operator.reconcile.loop import AikiServerLoop, Liveness, ServerLoops
from aiki_operator.scaling.load import Load
from aiki_operator.server_api import ServerApiError
from aiki_operator.spec.pool import parse_pool
from aiki_operator.spec.server import Allowed, parse_server
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import load, pool_body, server_body
from support.operator.turns import ACCESS, SERVER, Operator, condition
from support.waiting import until


@pytest.fixture
def there() -> list[dict[str, Any]]:
    return [server_body()]


ELSEWHERE = Key(POOL_KIND, "team-a", "onboarding")


def elsewhere(**spec: Any) -> dict[str, Any]:
    """A pool of the namespace team-a, for the server of the namespace shop."""
    body = pool_body(**{"serverRef": {"name": "aiki", "namespace": "shop"}, **spec})
    return {**body, "metadata": {**body["metadata"], "namespace": "team-a"}}


@pytest.mark.parametrize(
    ("allowed", "admitted"),
    [({}, False), ({"from": "Same"}, False), ({"from": "All"}, True), ({"from": "Names", "names": ["team-a"]}, True),
     ({"from": "Names", "names": ["team-b"]}, False)],
)  # fmt: skip
def test_server_says_which_namespaces_may_have_pools(allowed: dict[str, Any], admitted: bool) -> None:
    spec = parse_server(server_body(allowedNamespaces=allowed), default_image="i")
    assert spec.allowed.admits("team-a") is admitted


async def turn(operator: Operator, key: Key, access: ServerAccess) -> None:
    holders = operator.pools.holders(operator.pools.of_server(SERVER))
    await operator.pools.turn(key, lambda _: load(), holders=holders, control=None, access=access)


async def test_pool_elsewhere_gets_what_its_workers_need_beside_it(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.put(elsewhere())
    await turn(operator, ELSEWHERE, ACCESS)
    given = kubernetes.objects["Secret", "team-a", "onboarding-pool"]
    assert (decode(given, "AIKI_URL"), decode(given, "AIKI_TOKEN")) == (ACCESS.url, "t0ken")
    assert given["metadata"]["ownerReferences"][0]["kind"] == POOL_KIND
    (deployment,) = kubernetes.of("Deployment")
    template = deployment["spec"]["template"]
    assert template["metadata"]["labels"][SERVER_NAMESPACE_LABEL] == "shop"
    known = {one["name"]: one.get("valueFrom") for one in template["spec"]["containers"][0]["env"]}
    assert known["AIKI_TOKEN"] == {"secretKeyRef": {"name": "onboarding-pool", "key": "AIKI_TOKEN"}}
    assert ("NetworkPolicy", "team-a", "onboarding-pool") in kubernetes.objects


async def test_pool_of_another_aiki_namespace_gets_that_ones_token_and_no_other(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.put(pool_body(name="tenant", namespace="team-a"))
    await turn(operator, Key(POOL_KIND, "shop", "tenant"), ACCESS)
    assert decode(kubernetes.objects["Secret", "shop", "tenant-pool"], "AIKI_TOKEN") == "other"
    assert ("NetworkPolicy", "shop", "tenant-pool") not in kubernetes.objects


async def test_changed_token_restarts_the_workers_and_nothing_is_written_otherwise(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.put(elsewhere())
    await turn(operator, ELSEWHERE, ACCESS)
    (before,) = kubernetes.of("Deployment")
    writes = len(kubernetes.writes)
    await turn(operator, ELSEWHERE, ACCESS)
    assert len(kubernetes.writes) == writes
    await turn(operator, ELSEWHERE, replace(ACCESS, tokens={"default": "rotated"}))
    (after,) = kubernetes.of("Deployment")
    assert decode(kubernetes.objects["Secret", "team-a", "onboarding-pool"], "AIKI_TOKEN") == "rotated"
    assert before["spec"]["template"]["metadata"]["annotations"] != after["spec"]["template"]["metadata"]["annotations"]


def token(kubernetes: FakeKubernetes, namespace: str, name: str) -> str | None:
    return decode(kubernetes.objects["Secret", namespace, name], "AIKI_TOKEN")


async def test_pool_that_is_no_longer_admitted_gives_its_token_back(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.put(elsewhere())
    await turn(operator, ELSEWHERE, ACCESS)
    assert token(kubernetes, "team-a", "onboarding-pool") == "t0ken"
    shut = LoadUnavailable(0.0, NOT_ALLOWED, "admits no pools of namespace team-a", lasting=True)
    for _ in range(2):
        await operator.pools.turn(ELSEWHERE, lambda _: shut, holders={}, control=None, access=None)
        assert not kubernetes.objects["Secret", "team-a", "onboarding-pool"].get("data")
        assert condition(kubernetes, ELSEWHERE, "ServerReachable")["reason"] == "NotAllowed"
    asked = len(kubernetes.asked)
    await operator.pools.turn(ELSEWHERE, lambda _: shut, holders={}, control=None, access=None)
    assert len(kubernetes.asked) == asked, "what has no token any more is not looked at again"
    await turn(operator, ELSEWHERE, ACCESS)
    assert token(kubernetes, "team-a", "onboarding-pool") == "t0ken"


async def test_restarted_operator_takes_back_what_the_one_before_had_handed_out(
    kubernetes: FakeKubernetes, cluster: Any, operator: Operator
) -> None:
    kubernetes.put(elsewhere())
    await turn(operator, ELSEWHERE, ACCESS)
    shut = LoadUnavailable(0.0, NOT_ALLOWED, "admits no pools of namespace team-a", lasting=True)
    await Operator(kubernetes, cluster).pools.turn(ELSEWHERE, lambda _: shut, holders={}, control=None, access=None)
    assert not kubernetes.objects["Secret", "team-a", "onboarding-pool"].get("data")


async def test_pool_of_an_aiki_namespace_that_is_gone_or_its_servers_own_keeps_no_token(
    kubernetes: FakeKubernetes, operator: Operator
) -> None:
    body, key = kubernetes.put(pool_body(name="tenant", namespace="team-a")), Key(POOL_KIND, "shop", "tenant")
    await turn(operator, key, ACCESS)
    assert token(kubernetes, "shop", "tenant-pool") == "other"
    await turn(operator, key, replace(ACCESS, tokens={"default": "t0ken"}))
    assert token(kubernetes, "shop", "tenant-pool") is None
    await turn(operator, key, ACCESS)
    assert token(kubernetes, "shop", "tenant-pool") == "other"
    spec = {name: value for name, value in body["spec"].items() if name != "namespace"}
    kubernetes.put({**body, "spec": spec, "metadata": {**body["metadata"], "generation": 2}})
    await turn(operator, key, ACCESS)
    assert token(kubernetes, "shop", "tenant-pool") is None


async def test_secret_that_somebody_else_made_is_left_alone(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.put(pool_body())
    kubernetes.put(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "onboarding-pool", "namespace": "shop"}, "data": {"a": "Yg=="}}
    )
    await turn(operator, Key(POOL_KIND, "shop", "onboarding"), ACCESS)
    assert kubernetes.objects["Secret", "shop", "onboarding-pool"]["data"] == {"a": "Yg=="}


async def test_secret_that_is_refused_is_said_and_starts_nothing(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.put(elsewhere())
    kubernetes.refuse["Secret"] = (403, "exceeded quota: secrets")
    await turn(operator, ELSEWHERE, ACCESS)
    assert kubernetes.of("Deployment") == []
    assert "exceeded quota" in condition(kubernetes, ELSEWHERE, "Ready")["message"]


async def test_pools_of_one_name_in_two_aiki_namespaces_are_two(kubernetes: FakeKubernetes, operator: Operator) -> None:
    for body in (pool_body(pool="p"), pool_body(name="second", pool="p", namespace="team-a"), elsewhere(pool="p", namespace="team-a")):
        kubernetes.put(body)
    holders = operator.pools.holders(operator.pools.of_server(SERVER))
    assert set(holders) == {("default", "p"), ("team-a", "p")}
    assert operator.pools.namespaces(SERVER) == {"default", "team-a"}


def test_redis_lets_in_the_workers_of_namespaces_that_are_allowed() -> None:
    def rules(**allowed: Any) -> list[Any]:
        policies = network.policies(parse_server(server_body(allowedNamespaces=allowed), default_image="i"))
        found: list[Any] = next(one for one in policies if one["metadata"]["name"] == "aiki-redis")["spec"]["ingress"]
        return found

    assert len(rules()) == 1
    assert rules(**{"from": "All"})[1]["from"][0]["namespaceSelector"] == {}
    (named,) = rules(**{"from": "Names", "names": ["team-a"]})[1]["from"][0]["namespaceSelector"]["matchExpressions"]
    assert named["values"] == ["team-a"]


def test_workers_are_reached_by_their_health_port_alone_and_databases_by_it_never() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in network.policies(parse_server(server_body(), default_image="i"))}
    for spec in (policies["aiki-workers"], network.of_pool(parse_pool(elsewhere()))["spec"]):
        assert spec["ingress"] == [{"ports": [{"port": WORKER_HEALTH_PORT, "protocol": "TCP"}]}]
    assert policies["aiki-migrations"]["ingress"] == []
    assert all("from" in rule for name in ("aiki-postgres", "aiki-redis") for rule in policies[name]["ingress"])


def test_the_secret_of_workers_beside_the_server_has_what_reads_figures() -> None:
    manifest = secret.worker(parse_server(server_body(), default_image="i"), "one")
    assert secret.decode(manifest, "AIKI_METRICS_TOKEN") == figures_token("one")
    assert "AIKI_METRICS_TOKEN" not in secret.client(parse_server(server_body(), default_image="i"), "one")["data"]


def test_secrets_of_pools_hold_one_token_and_what_reads_figures() -> None:
    manifest = secret.pool(parse_pool(elsewhere()), "http://x", "one")
    assert set(manifest["data"]) == {"AIKI_URL", "AIKI_TOKEN", "AIKI_METRICS_TOKEN"}
    assert secret.decode(manifest, "AIKI_METRICS_TOKEN") == figures_token("one")


class Asked:
    """Stands in for a server; remembers which tokens it was asked with."""

    tokens: list[str]

    def __init__(self, _session: object, _url: str, token: str) -> None:
        self.token = token

    async def loads(self, _now: float) -> dict[str, Load]:
        Asked.tokens.append(self.token)
        if self.token == "broken":
            raise ServerApiError("TokenRefused", "no")
        return {}

    async def wait_for_work(self, _seconds: int) -> list[str]:
        await asyncio.Event().wait()
        return []


@pytest.fixture
def server_loop(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> AikiServerLoop:
    """The loop of the server, with a stand-in for the server's API."""
    Asked.tokens = []
    monkeypatch.setattr(loop, "ServerApi", Asked)
    return AikiServerLoop(SERVER, operator.servers, operator.pools, None, Liveness())  # type: ignore[arg-type]


async def test_each_aiki_namespace_is_asked_with_its_own_token(
    kubernetes: FakeKubernetes, operator: Operator, server_loop: AikiServerLoop
) -> None:
    await operator.server_until_ready()
    kubernetes.put({"kind": "Secret", "metadata": {"name": "a", "namespace": "shop"}, "data": {"token": "YW5vdGhlci10b2tlbg=="}})
    body = kubernetes.objects[SERVER]
    allowed = {"from": "Names", "names": ["team-a"]}
    namespaces = [{"name": "team-a", "tokenSecretRef": {"name": "a"}}]
    kubernetes.put({**body, "spec": {**body["spec"], "namespaces": namespaces, "allowedNamespaces": allowed}})
    kubernetes.put(elsewhere(namespace="team-a"))
    stranger = elsewhere(namespace="nobodys")
    kubernetes.put({**stranger, "metadata": {**stranger["metadata"], "name": "stranger"}})
    outside = elsewhere()
    kubernetes.put({**outside, "metadata": {**outside["metadata"], "namespace": "team-b"}})
    await operator.server_until_ready()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server_loop.run())
        await until(lambda: {"another-token"} <= set(Asked.tokens) and _reason(kubernetes, "team-b", "onboarding") is not None)
        await until(lambda: _reason(kubernetes, "team-a", "stranger"))
        task.cancel()
    assert _reason(kubernetes, "team-a", "stranger") == "NotAllowed"  # as of one that there is: nobody learns which there are
    assert _reason(kubernetes, "team-b", "onboarding") == "NotAllowed"
    assert ("Secret", "team-b", "onboarding-pool") not in kubernetes.objects
    assert ("Secret", "team-a", "onboarding-pool") in kubernetes.objects


@pytest.mark.parametrize("wanted", ["team-a", "default"])
async def test_a_team_is_given_no_token_of_another_and_takes_no_name_from_it(
    kubernetes: FakeKubernetes, operator: Operator, server_loop: AikiServerLoop, wanted: str
) -> None:
    """I45: both Kubernetes namespaces are admitted, and whoever may write pools in one names the Aiki namespace of the other."""
    for name in ("team-a", "team-b"):
        kubernetes.put({"kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "data": {"token": encoded(f"token-of-{name}")}})
    namespaces = [{"name": name, "tokenSecretRef": {"name": name}} for name in ("team-a", "team-b")]
    kubernetes.put(server_body(namespaces=namespaces, allowedNamespaces={"from": "All"}))
    mine = elsewhere(namespace="team-a", pool="shared")
    kubernetes.put({**mine, "metadata": {**mine["metadata"], "creationTimestamp": "2026-02-02T00:00:00Z"}})
    theirs = elsewhere(namespace=wanted, pool="shared")
    meta = {**theirs["metadata"], "namespace": "team-b", "name": "greedy", "creationTimestamp": "2026-01-01T00:00:00Z"}
    kubernetes.put({**theirs, "metadata": meta})
    await operator.server_until_ready()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server_loop.run())
        await until(lambda: _reason(kubernetes, "team-b", "greedy"))
        await until(lambda: ("Secret", "team-a", "onboarding-pool") in kubernetes.objects)
        task.cancel()
    assert _reason(kubernetes, "team-b", "greedy") == "NotAllowed"
    assert [body["metadata"]["namespace"] for body in kubernetes.of("Secret") if body["metadata"]["name"].endswith("-pool")] == ["team-a"]
    assert decode(kubernetes.objects["Secret", "team-a", "onboarding-pool"], "AIKI_TOKEN") == "token-of-team-a"


@pytest.mark.parametrize(
    ("namespace", "wanted", "opens"),
    [
        ("team-a", "team-a", True),
        ("team-a", "team-b", False),
        ("team-a", "default", False),
        ("team-a-prod", "team-a", False),
        ("pool-1", "many", True),
        ("pool-2", "many", True),
        ("many", "many", False),
        ("many", "default", True),
        ("nobody", "default", True),
        ("nobody", "team-a", False),
    ],
)
def test_token_goes_only_to_the_kubernetes_namespaces_that_an_aiki_namespace_is_for(namespace: str, wanted: str, opens: bool) -> None:
    namespaces: list[dict[str, Any]] = [{"name": name, "tokenSecretRef": {"name": name}} for name in ("team-a", "team-b")]
    namespaces += [{"name": "many", "tokenSecretRef": {"name": "many"}, "poolNamespaces": ["pool-1", "pool-2"]}]
    spec = parse_server(server_body(namespaces=namespaces, allowedNamespaces={"from": "All"}), default_image="i")
    assert spec.allowed.opens(namespace, wanted) is opens


def encoded(text: str) -> str:
    return b64encode(text.encode()).decode()


def _reason(kubernetes: FakeKubernetes, namespace: str, name: str) -> str | None:
    found = kubernetes.objects[POOL_KIND, namespace, name].get("status", {}).get("conditions", [])
    return next((str(one["reason"]) for one in found if one["type"] == "ServerReachable"), None)


async def test_pool_whose_server_is_nowhere_says_where_it_was_looked_for(
    kubernetes: FakeKubernetes, cluster: Cluster, operator: Operator
) -> None:
    kubernetes.put(elsewhere(serverRef={"name": "absent", "namespace": "shop"}))
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        task = group.create_task(ServerLoops(operator.store, operator.servers, operator.pools, session, Liveness()).run())
        await until(lambda: _reason(kubernetes, "team-a", "onboarding"))
        task.cancel()
    assert "no AikiServer absent in namespace shop" in condition(kubernetes, ELSEWHERE, "ServerReachable")["message"]


def test_allowed_by_default_is_nobody() -> None:
    assert not Allowed().foreign

"""Two installations of the operator over one namespace: one acts, and the other says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from prometheus_client import REGISTRY

from aiki_operator.kubernetes.cache import Key
from aiki_operator.kubernetes.client import Cluster
from aiki_operator.reconcile.installation_marks import EXPIRES_SECONDS, RENEW_SECONDS
from aiki_operator.reconcile.loop import AikiServerLoop, Liveness
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import pool_body, server_body
from support.operator.turns import POOL, SERVER, Operator, patch, settle

FIRST, SECOND = "aiki/aiki-operator", "team/second-operator"


@pytest.fixture
def both(kubernetes: FakeKubernetes, cluster: Cluster) -> tuple[Operator, Operator]:
    kubernetes.put(server_body())
    kubernetes.put(pool_body())
    first, second = (Operator(kubernetes, cluster, name=name) for name in (FIRST, SECOND))

    def tell(body: dict[str, object]) -> None:
        first.see(body)
        second.see(body)

    kubernetes.watcher = tell
    return first, second


@asynccontextmanager
async def turning(operator: Operator) -> AsyncIterator[AikiServerLoop]:
    async with aiohttp.ClientSession() as session:
        yield AikiServerLoop(SERVER, operator.servers, operator.pools, session, Liveness())


async def turn(operator: Operator) -> list[tuple[str, str]]:
    """A turn of the loop over the server and its pools; what it wrote."""
    before = len(operator.kubernetes.writes)
    async with turning(operator) as loop:
        await loop._turn()
    settle(operator.kubernetes)
    return operator.kubernetes.writes[before:]


def yields() -> float | None:
    """The metric, as the installation set it that turned last: both are of one process here."""
    return REGISTRY.get_sample_value("aiki_operator_yields", {"namespace": "shop", "name": "aiki"})


def holder(kubernetes: FakeKubernetes) -> str:
    return str(kubernetes.objects[SERVER]["status"]["operator"]["name"])


async def test_one_acts_and_the_other_says_so(kubernetes: FakeKubernetes, both: tuple[Operator, Operator]) -> None:
    first, second = both
    for _ in range(6):
        await turn(first)
    assert await turn(second) == [("create", "events")]
    assert yields() == 1
    event = next(one for one in kubernetes.of("Event") if one["reason"] == "OtherOperator")
    assert (event["type"], event["involvedObject"]["name"]) == ("Warning", "aiki")
    assert FIRST in event["message"]
    assert SECOND in event["message"]
    patch(kubernetes, SERVER, replicas=2)
    patch(kubernetes, POOL, image="example.com/onboarding:2")
    assert await turn(second) == []
    assert ("patch", "deployments") in await turn(first)
    assert yields() == 0
    assert holder(kubernetes) == FIRST


async def test_the_other_takes_over_when_the_first_is_gone(kubernetes: FakeKubernetes, both: tuple[Operator, Operator]) -> None:
    first, second = both
    for _ in range(6):
        await turn(first)
    await turn(second)
    for _ in range(6):  # it lives, and signs anew
        first.clock.now += RENEW_SECONDS + 1
        second.clock.now += RENEW_SECONDS + 1
        await turn(first)
        assert await turn(second) == []
    second.clock.now += EXPIRES_SECONDS + 1
    await turn(second)
    assert holder(kubernetes) == SECOND
    assert yields() == 0
    # The first comes back, as one that was frozen does: it is the one that stands by now.
    assert await turn(first) == [("create", "events")]


async def test_of_two_that_begin_at_once_one_is_left(kubernetes: FakeKubernetes, both: tuple[Operator, Operator]) -> None:
    for operator in both:
        await operator.server()
    settle(kubernetes)
    for operator in both:
        await turn(operator)
    patch(kubernetes, SERVER, replicas=3)
    wrote = [bool([one for one in await turn(operator) if one[1] != "events"]) for operator in both]
    assert sorted(wrote) == [False, True]


async def test_a_server_at_rest_is_signed_anew_three_times_a_minute(kubernetes: FakeKubernetes, both: tuple[Operator, Operator]) -> None:
    first, _ = both
    for _ in range(6):
        await turn(first)
    assert [one for one in await turn(first) if one[1] == "aikiservers/status"] == []
    writes = 0
    for _ in range(60):
        first.clock.now += 1
        writes += len([one for one in await first.server() if one[1] == "aikiservers/status"])
    assert writes == 3


@pytest.mark.parametrize("first_serves", [("shop", "street"), ("shop",), ()])
async def test_a_pool_that_only_the_one_that_stands_by_sees_is_told_so(
    kubernetes: FakeKubernetes, cluster: Cluster, first_serves: tuple[str, ...]
) -> None:
    far = pool_body(name="far", serverRef={"name": "aiki", "namespace": "shop"})
    far["metadata"]["namespace"] = "team"
    far_key = Key("AikiWorkerPool", "team", "far")
    kubernetes.put(server_body(allowedNamespaces={"from": "All"}))
    kubernetes.put(pool_body())
    kubernetes.put(far)
    first = Operator(kubernetes, cluster, name=FIRST, namespaces=first_serves)
    second = Operator(kubernetes, cluster, name=SECOND, namespaces=("shop", "team"))

    def tell(body: dict[str, object]) -> None:
        first.see(body)
        second.see(body)

    kubernetes.watcher = tell
    for _ in range(6):
        await turn(first)
    near = kubernetes.objects[POOL]["status"]
    await turn(second)
    assert kubernetes.objects[POOL]["status"] == near
    stalled = {one["type"]: one for one in kubernetes.objects[far_key].get("status", {}).get("conditions", [])}.get("Stalled", {})
    if not first_serves:  # the first serves the whole cluster, so the pool is its own
        assert stalled.get("reason") != "OtherOperator"
        return
    assert (stalled["status"], stalled["reason"]) == ("True", "OtherOperator")
    for said in (FIRST, SECOND, "add team to operator.namespaces", "AikiServer shop/aiki"):
        assert said in stalled["message"]
    assert await turn(second) == []

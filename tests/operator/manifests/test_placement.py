"""Where pods run, and how many of them may be evicted: fields of both kinds, with defaults that a cluster of several nodes needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from aiki_operator.manifests import disruption, server
from aiki_operator.manifests.databases import statefulset
from aiki_operator.manifests.pods.policy import TemplateGuard
from aiki_operator.manifests.server import Sources
from aiki_operator.manifests.worker import deployment
from aiki_operator.spec.placement import Budget
from aiki_operator.spec.pool import parse_pool
from aiki_operator.spec.server import ManagedDatabase, SecretKey
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import parsed, pool_body, server_body
from support.operator.turns import POOL, SERVER, Operator, patch

SOURCES = Sources(SecretKey("pg", "uri"), SecretKey("valkey", "url"), SecretKey("token", "token"), "c1", "c2")


def worker(**spec: Any) -> dict[str, Any]:
    return deployment(parse_pool(pool_body(**spec)), replicas=1, config="c")


def of_server(**spec: Any) -> dict[str, dict[str, Any]]:
    """Everything that has pods, by what it is."""
    made = parsed(**spec)
    assert isinstance(made.database, ManagedDatabase)
    assert isinstance(made.redis, ManagedDatabase)
    return {
        "server": server.deployment(made, SOURCES),
        "migration": server.migration(made, SOURCES),
        "postgres": statefulset.postgres(made.owner, made.database),
        "redis": statefulset.redis(made.owner, made.redis),
    }


def pod(manifest: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return found


def spread(manifest: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    return [(one["topologyKey"], one["maxSkew"], one["whenUnsatisfiable"]) for one in pod(manifest).get("topologySpreadConstraints", [])]


@pytest.mark.parametrize("made", [worker(), of_server()["server"]])
def test_pods_are_spread_over_nodes_and_zones_as_far_as_there_is_room(made: dict[str, Any]) -> None:
    assert spread(made) == [("kubernetes.io/hostname", 1, "ScheduleAnyway"), ("topology.kubernetes.io/zone", 1, "ScheduleAnyway")]
    for one in pod(made)["topologySpreadConstraints"]:
        assert one["labelSelector"]["matchLabels"] == made["spec"]["selector"]["matchLabels"]
        assert one["matchLabelKeys"] == ["pod-template-hash"]


def test_what_a_user_says_of_the_spread_takes_the_place_of_it() -> None:
    wanted = {"topologySpreadConstraints": [{"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}]}
    assert spread(worker(**wanted)) == spread(of_server(**wanted)["server"]) == [("rack", 2, "DoNotSchedule")]
    assert spread(worker(topologySpreadConstraints=[])) == []
    theirs = {"maxSkew": 1, "topologyKey": "row", "whenUnsatisfiable": "ScheduleAnyway"}
    assert spread(worker(**wanted, template={"spec": {"topologySpreadConstraints": [theirs]}})) == [("row", 1, "ScheduleAnyway")]


def test_priority_is_that_of_the_whole_installation() -> None:
    made = of_server(priorityClassName="high")
    assert {name: pod(one)["priorityClassName"] for name, one in made.items()} == dict.fromkeys(made, "high")
    template = {"spec": {"priorityClassName": "higher"}}
    made = of_server(priorityClassName="high", database={"managed": {"template": template}}, redis={"managed": {}}, template=template)
    assert [pod(made[name])["priorityClassName"] for name in ("server", "migration", "postgres", "redis")] == [
        "higher", "higher", "higher", "high"
    ]  # fmt: skip
    assert "priorityClassName" not in pod(of_server()["postgres"])


def test_secrets_for_the_registry_reach_every_pod_of_the_installation() -> None:
    """The databases' images come from a mirror too, where there is no internet."""
    made = of_server(imagePullSecrets=[{"name": "mirror"}])
    assert {name: pod(one)["imagePullSecrets"] for name, one in made.items()} == {name: [{"name": "mirror"}] for name in made}
    assert "imagePullSecrets" not in pod(of_server()["postgres"])


def test_account_and_annotations_reach_the_pods_that_run_our_code() -> None:
    wanted = {"serviceAccountName": "robot", "podAnnotations": {"a": "field", "b": "field"}}
    template = {"metadata": {"annotations": {"b": "template"}}}
    made = {**of_server(**wanted, template=template), "worker": worker(**wanted, template=template)}
    for name in ("server", "migration", "worker"):
        assert pod(made[name])["serviceAccountName"] == "robot"
        annotations = made[name]["spec"]["template"]["metadata"]["annotations"]
        assert (annotations["a"], annotations["b"]) == ("field", "template")
        assert pod(made[name])["automountServiceAccountToken"] is False
    for name in ("postgres", "redis"):
        assert "serviceAccountName" not in pod(made[name])
        assert "a" not in made[name]["spec"]["template"]["metadata"].get("annotations", {})


def test_operators_own_account_is_refused_in_the_field_too() -> None:
    guard = TemplateGuard(frozenset({("shop", "aiki-operator")}))
    for made in (worker(serviceAccountName="aiki-operator"), of_server(serviceAccountName="aiki-operator")["server"]):
        assert any("is the operator's own service account" in one for one in guard.violations(made))


@pytest.mark.parametrize(
    "change",
    [
        {"priorityClassName": "high"},
        {"serviceAccountName": "robot"},
        {"podAnnotations": {"a": "b"}},
        {"topologySpreadConstraints": []},
        {"podDisruptionBudget": {"maxUnavailable": 3}},
    ],
)
def test_where_pods_run_makes_no_new_build(change: dict[str, Any]) -> None:
    assert parse_pool(pool_body(**change)).build == parse_pool(pool_body()).build


# ---- budgets ------------------------------------------------------------------------------------------------------


def test_servers_may_be_evicted_one_at_a_time_unless_the_user_says_more() -> None:
    assert parsed().disruption_budget == Budget(1)
    assert parsed(podDisruptionBudget={"enabled": False}).disruption_budget is None
    wanted = parsed(podDisruptionBudget={"maxUnavailable": "50%"})
    assert wanted.disruption_budget is not None
    made = disruption.budget(wanted, wanted.disruption_budget)["spec"]
    assert (made["maxUnavailable"], made["unhealthyPodEvictionPolicy"]) == ("50%", "AlwaysAllow")
    assert made["selector"]["matchLabels"] == of_server()["server"]["spec"]["selector"]["matchLabels"]


async def test_pool_has_the_budget_that_it_asks_for_and_none_otherwise(kubernetes: FakeKubernetes, cluster: Any) -> None:
    kubernetes.put(server_body())
    kubernetes.put(pool_body())
    operator = Operator(kubernetes, cluster)
    await operator.pool()
    assert kubernetes.of("PodDisruptionBudget") == []
    patch(kubernetes, POOL, podDisruptionBudget={"maxUnavailable": 2})
    await operator.pool()
    (made,) = kubernetes.of("PodDisruptionBudget")
    assert made["spec"]["maxUnavailable"] == 2
    selector, template = made["spec"]["selector"]["matchLabels"], kubernetes.of("Deployment")[0]["spec"]["template"]
    assert selector.items() <= template["metadata"]["labels"].items()
    assert await operator.pool() == []
    patch(kubernetes, POOL, podDisruptionBudget=None)
    kubernetes.objects[POOL]["spec"].pop("podDisruptionBudget")
    await operator.pool()
    assert kubernetes.of("PodDisruptionBudget") == []


async def test_budget_of_somebody_else_under_the_same_name_is_left_alone(kubernetes: FakeKubernetes, cluster: Any) -> None:
    kubernetes.put(server_body())
    kubernetes.put(pool_body())
    theirs = {"kind": "PodDisruptionBudget", "apiVersion": "policy/v1", "metadata": {"name": "onboarding-pool", "namespace": "shop"}}
    kubernetes.put({**theirs, "spec": {}})
    await Operator(kubernetes, cluster).pool()
    assert len(kubernetes.of("PodDisruptionBudget")) == 1


async def test_refused_budget_is_said_and_keeps_nothing_else_from_being_done(kubernetes: FakeKubernetes, cluster: Any) -> None:
    kubernetes.put(server_body())
    kubernetes.put(pool_body(podDisruptionBudget={}))
    kubernetes.refuse["PodDisruptionBudget"] = (422, "no budgets here")
    await Operator(kubernetes, cluster).pool()
    assert len(kubernetes.of("Deployment")) == 1
    stalled = next(one for one in kubernetes.objects[POOL]["status"]["conditions"] if one["type"] == "Stalled")
    assert (stalled["status"], "no budgets here" in stalled["message"]) == ("True", True)
    assert SERVER in kubernetes.objects

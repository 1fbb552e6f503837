"""The shell around the plans, against a small Kubernetes API: it writes what differs, asks for what RBAC grants, and survives its death."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiki_operator.kubernetes.cache import Key
from aiki_operator.kubernetes.client import Cluster, ClusterError
from aiki_operator.names import BUILD_LABEL, CONFIG, DELETION_COST, POOL_LABEL, SELECTOR_OF_OURS
from aiki_operator.process.app import WATCHED
from aiki_operator.process.lease import LeaderLease
from aiki_operator.reconcile.environment import READ_SECONDS
from aiki_operator.spec.pool import parse_pool
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import build_load, load, pool_body, worker
from support.operator.turns import ACCESS, BUILD, POOL, READY, SERVER, Operator, patch, reading, ready, start_pods

RBAC = Path(__file__).parents[3] / "charts" / "aiki" / "templates" / "rbac.yaml"


# ---- the server ---------------------------------------------------------------------------------------------------


async def test_server_gets_ready_and_then_nothing_is_written(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await operator.server_until_ready()
    assert ready(kubernetes, SERVER) == ("True", "Ready")
    assert await operator.server() == []
    status = kubernetes.objects[SERVER]["status"]
    assert (status["url"], status["readyReplicas"], status["clientSecret"]) == ("http://aiki.shop.svc:8080", 1, "aiki-client")


async def test_restarted_operator_writes_nothing(kubernetes: FakeKubernetes, cluster: Cluster, operator: Operator) -> None:
    await operator.server_until_ready()
    assert await Operator(kubernetes, cluster).server() == []


async def test_stranger_s_change_is_undone(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await operator.server_until_ready()
    deployment = kubernetes.objects["Deployment", "shop", "aiki"]
    kubernetes.put({**deployment, "spec": {**deployment["spec"], "replicas": 5}})
    assert ("patch", "deployments") in await operator.server()
    assert kubernetes.objects["Deployment", "shop", "aiki"]["spec"]["replicas"] == 1


async def test_object_of_somebody_else_under_our_name_is_not_taken_for_ours(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.put({"kind": "Ingress", "metadata": {"name": "aiki", "namespace": "shop", "labels": {"app": "other"}}})
    await operator.server_until_ready()
    assert ("Ingress", "shop", "aiki") in kubernetes.objects


async def test_manifest_that_is_refused_stalls_with_the_answer(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.refuse["StatefulSet"] = (422, 'volumeClaimTemplates: "10 apples" is not a quantity')
    await operator.server()
    assert ready(kubernetes, SERVER) == ("False", "ManifestRefused")
    stalled = next(one for one in kubernetes.objects[SERVER]["status"]["conditions"] if one["type"] == "Stalled")
    assert stalled["status"] == "True"
    assert "10 apples" in stalled["message"]


@pytest.mark.parametrize("writes", range(31))
async def test_killed_between_any_two_writes_it_ends_with_the_same_objects(
    kubernetes: FakeKubernetes, cluster: Cluster, operator: Operator, writes: int
) -> None:
    """S42; some thirty requests lead from nothing to a server that runs."""
    kubernetes.dies_after = writes
    try:
        await operator.server_until_ready()
    except ClusterError as error:
        assert error.status == 503  # noqa: PT017 - the death that this test ordered
    kubernetes.dies_after = None
    again = Operator(kubernetes, cluster)
    await again.server_until_ready()
    assert await again.server() == []
    assert sorted(f"{kind} {name}" for kind, _, name in kubernetes.objects if kind not in ("Job", "Event")) == [
        "AikiServer aiki", "AikiWorkerPool onboarding", "Deployment aiki", "NetworkPolicy aiki",
        "NetworkPolicy aiki-migrations", "NetworkPolicy aiki-postgres", "NetworkPolicy aiki-redis", "NetworkPolicy aiki-workers", "PodDisruptionBudget aiki", "Secret aiki-client",
        "Secret aiki-postgres", "Secret aiki-redis", "Secret aiki-token", "Secret aiki-tokens", "Secret aiki-worker", "Service aiki", "Service aiki-postgres", "Service aiki-redis",
        "StatefulSet aiki-postgres", "StatefulSet aiki-redis",
    ]  # fmt: skip
    assert len(kubernetes.of("Job")) == 1


async def corrected(kubernetes: FakeKubernetes, operator: Operator) -> None:
    """A server that waits for a volume of a StorageClass that there is not, and then gets the right one."""
    for name, rounds in (("typo", 2), ("fast", 3)):
        body = kubernetes.objects[SERVER]
        spec = {**body["spec"], "database": {"managed": {"storage": {"className": name}}}}
        kubernetes.put({**body, "spec": spec, "metadata": {**body["metadata"], "generation": body["metadata"]["generation"] + 1}})
        for _ in range(rounds):
            await operator.server()
        template = kubernetes.objects["StatefulSet", "shop", "aiki-postgres"]["spec"]["volumeClaimTemplates"][0]
        if name == "typo":
            kubernetes.put({**template, "metadata": {**template["metadata"], "name": "data-aiki-postgres-0", "namespace": "shop"}})


async def test_mistyped_storage_class_of_a_new_server_is_put_right(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await corrected(kubernetes, operator)
    assert ("PersistentVolumeClaim", "shop", "data-aiki-postgres-0") not in kubernetes.objects
    made = kubernetes.objects["StatefulSet", "shop", "aiki-postgres"]["spec"]["volumeClaimTemplates"][0]["spec"]
    assert made["storageClassName"] == "fast"


async def test_claim_that_got_a_volume_a_moment_ago_is_not_deleted(kubernetes: FakeKubernetes, cluster: Cluster) -> None:
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "shop"}, "spec": {}}
    seen = kubernetes.put(claim)
    kubernetes.put({**claim, "spec": {"volumeName": "pv"}})
    with pytest.raises(ClusterError):
        await cluster.delete("PersistentVolumeClaim", "shop", "data", version=seen["metadata"]["resourceVersion"])
    assert ("PersistentVolumeClaim", "shop", "data") in kubernetes.objects


# ---- the pool -----------------------------------------------------------------------------------------------------


async def test_pool_starts_and_takes_over_and_then_nothing_is_written(kubernetes: FakeKubernetes, operator: Operator) -> None:
    first = await operator.pool()
    assert sorted(resource for _, resource in first) == ["aikiworkerpools/status", "deployments", "deployments", "events"]
    pods = start_pods(kubernetes)
    busy = reading(*pods, active=3)
    await operator.pool(busy)
    assert operator.orders.given == [("promote", "onboarding", BUILD)]
    assert (ready(kubernetes, POOL), kubernetes.objects[POOL]["status"]["servingBuild"]) == (("True", "Ready"), BUILD)
    for _ in range(3):
        assert await operator.pool(busy) == []


async def test_restarted_operator_writes_nothing_and_gives_no_order(
    kubernetes: FakeKubernetes, cluster: Cluster, operator: Operator
) -> None:
    await operator.pool()
    busy = reading(*start_pods(kubernetes), active=3)
    await operator.pool(busy)
    again = Operator(kubernetes, cluster)
    assert await again.pool(busy) == []
    assert again.orders.given == []


async def test_one_change_is_one_event(kubernetes: FakeKubernetes, operator: Operator) -> None:
    for _ in range(3):
        await operator.pool()
    events = kubernetes.of("Event")
    assert [one["reason"] for one in events] == ["ScaledUp"]
    assert (events[0]["involvedObject"]["kind"], events[0]["involvedObject"]["name"]) == ("AikiWorkerPool", "onboarding")


async def test_pod_that_goes_is_marked_before_the_size_falls(kubernetes: FakeKubernetes, operator: Operator) -> None:
    body = kubernetes.objects[POOL]
    kubernetes.put({**body, "spec": {**body["spec"], "replicas": 2}})
    await operator.pool()
    first, second = start_pods(kubernetes)
    kubernetes.put({**body, "spec": {**body["spec"], "replicas": 1}})
    pods = load(
        build_load(BUILD, running=4, busy_workers=1),
        workers=(worker(first, build=BUILD, active=4), worker(second, build=BUILD, draining=True)),
    )
    writes = await operator.pool(pods)
    assert [one for one in writes if one[1] in ("pods", "deployments")] == [("patch", "pods"), ("patch", "deployments")]
    assert kubernetes.objects["Pod", "shop", second]["metadata"]["annotations"] == {DELETION_COST: "-1000"}
    assert "annotations" not in kubernetes.objects["Pod", "shop", first]["metadata"]


async def test_dead_pod_is_told_to_the_server(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await operator.pool()
    pods = start_pods(kubernetes)
    await operator.pool(reading(*pods, active=3))
    kubernetes.status(("Pod", "shop", pods[0]), phase="Failed", reason="Evicted")
    operator.orders.given.clear()
    await operator.pool(reading(*pods, active=3))
    assert ("lost", f"w-{pods[0]}") in operator.orders.given


async def test_pod_that_the_watch_has_missed_is_asked_for_before_it_is_called_dead(kubernetes: FakeKubernetes, operator: Operator) -> None:
    """S6: a wrong word would take its runs from a worker that lives."""
    await operator.pool()
    unseen = {"name": "unseen", "namespace": "shop", "labels": {POOL_LABEL: "onboarding", BUILD_LABEL: BUILD}}
    kubernetes.watcher = lambda _: None
    kubernetes.put({"kind": "Pod", "metadata": unseen, "status": READY})
    await operator.pool(reading("unseen", "gone"))
    assert [order for order in operator.orders.given if order[0] == "lost"] == [("lost", "w-gone")]


async def test_pool_that_is_being_deleted_is_left_alone(kubernetes: FakeKubernetes, operator: Operator) -> None:
    body = kubernetes.objects[POOL]
    kubernetes.put({**body, "metadata": {**body["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    assert await operator.pool() == []


async def test_a_pool_whose_name_at_the_server_is_taken_says_so_and_touches_nothing(kubernetes: FakeKubernetes, operator: Operator) -> None:
    rival = pool_body(name="older", pool="onboarding")
    rival["metadata"]["creationTimestamp"], mine = "2026-01-01T00:00:00Z", kubernetes.objects[POOL]
    kubernetes.put({**mine, "metadata": {**mine["metadata"], "creationTimestamp": "2026-01-02T00:00:00Z"}})
    kubernetes.put(rival)
    assert await operator.pool() == [("patch", "aikiworkerpools/status"), ("create", "events")]
    assert ready(kubernetes, POOL) == ("False", "PoolTaken")
    assert operator.orders.given == []
    kubernetes.put({**rival, "metadata": {**rival["metadata"], "deletionTimestamp": "2026-01-03T00:00:00Z"}})
    assert ("patch", "deployments") in await operator.pool()


# ---- what pods read besides ---------------------------------------------------------------------------------------


def config_of(kubernetes: FakeKubernetes, name: str) -> str:
    found: str = kubernetes.objects["Deployment", "shop", name]["spec"]["template"]["metadata"]["annotations"][CONFIG]
    return found


def note(kubernetes: FakeKubernetes, kind: str, name: str, value: str) -> None:
    kubernetes.put({"kind": kind, "metadata": {"name": name, "namespace": "shop"}, "data": {"A": value}})


WAYS: list[tuple[str, dict[str, Any]]] = [
    ("Secret", {"envFrom": [{"secretRef": {"name": "mine"}}]}),
    ("ConfigMap", {"envFrom": [{"configMapRef": {"name": "mine"}}]}),
    ("Secret", {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "mine", "key": "A"}}}]}),
    ("ConfigMap", {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "mine", "key": "A"}}}]}),
    ("Secret", {"template": {"spec": {"containers": [{"name": "worker", "envFrom": [{"secretRef": {"name": "mine"}}]}]}}}),
]


@pytest.mark.parametrize(("kind", "spec"), WAYS)
async def test_changed_secret_of_the_user_s_restarts_the_workers(
    kubernetes: FakeKubernetes, operator: Operator, kind: str, spec: dict[str, Any]
) -> None:
    patch(kubernetes, POOL, **spec)
    name = f"onboarding-{parse_pool(kubernetes.objects[POOL]).build}"
    note(kubernetes, kind, "mine", "one")
    await operator.pool()
    before = config_of(kubernetes, name)
    operator.clock.now += READ_SECONDS
    assert ("patch", "deployments") not in await operator.pool()
    note(kubernetes, kind, "mine", "two")
    operator.clock.now += READ_SECONDS
    await operator.pool()
    assert config_of(kubernetes, name) != before
    kubernetes.asked.clear()
    for _ in range(int(READ_SECONDS) - 1):
        operator.clock.now += 1
        await operator.pool()
    assert [verb for verb, _, resource in kubernetes.asked if resource in ("secrets", "configmaps")] == []


DATABASES = {"postgres": "database", "redis": "redis"}


@pytest.mark.parametrize("database", sorted(DATABASES))
@pytest.mark.parametrize(("kind", "container"), [(kind, spec) for kind, spec in WAYS if "template" not in spec])
async def test_changed_secret_of_the_user_s_restarts_the_managed_databases(
    kubernetes: FakeKubernetes, operator: Operator, database: str, kind: str, container: dict[str, Any]
) -> None:
    template = {"spec": {"containers": [{"name": database, **container}]}}
    patch(kubernetes, SERVER, **{DATABASES[database]: {"managed": {"template": template}}})
    note(kubernetes, kind, "mine", "one")
    await operator.server_until_ready()
    where = ("StatefulSet", "shop", f"aiki-{database}")
    before, other = kubernetes.objects[where], f"aiki-{'redis' if database == 'postgres' else 'postgres'}"
    assert before["metadata"]["generation"] == 1, "it was started once"
    untouched = kubernetes.objects["StatefulSet", "shop", other]
    assert await operator.server() == []
    note(kubernetes, kind, "mine", "two")
    operator.clock.now += READ_SECONDS
    await operator.server()
    after = kubernetes.objects[where]
    assert after["spec"]["template"]["metadata"]["annotations"] != before["spec"]["template"]["metadata"]["annotations"]
    assert kubernetes.objects["StatefulSet", "shop", other] == untouched


@pytest.mark.parametrize(("kind", "spec"), WAYS[2:4])
async def test_changed_secret_of_the_user_s_restarts_the_servers(
    kubernetes: FakeKubernetes, operator: Operator, kind: str, spec: dict[str, Any]
) -> None:
    patch(kubernetes, SERVER, **spec)
    note(kubernetes, kind, "mine", "one")
    await operator.server_until_ready()
    before = config_of(kubernetes, "aiki")
    assert await operator.server() == []
    note(kubernetes, kind, "mine", "two")
    operator.clock.now += READ_SECONDS
    await operator.server()
    assert config_of(kubernetes, "aiki") != before


async def test_pool_that_reads_nothing_of_the_user_s_keeps_the_digest_that_it_had(kubernetes: FakeKubernetes, operator: Operator) -> None:
    """An upgrade of the operator restarts no worker."""
    await operator.pool()
    assert config_of(kubernetes, f"onboarding-{BUILD}") == ACCESS.config("default")


# ---- RBAC ---------------------------------------------------------------------------------------------------------


def granted() -> set[tuple[str, str, str]]:
    """Verb, group and resource, as the chart's roles for the operator say."""
    lines = [re.sub(r"\{\{.*?\}\}", "x", line).strip() for line in RBAC.read_text().splitlines() if "apiGroups:" in line]
    rules = yaml.safe_load("\n".join(lines))
    return {
        (verb, group, resource) for rule in rules for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
    }


async def lead(kubernetes: FakeKubernetes, cluster: Cluster) -> None:
    lease = LeaderLease(cluster, namespace="aiki", name="aiki-operator", identity="a")
    await lease.acquire()
    await lease.release()
    for kind in WATCHED:
        await cluster.list(kind, None, selector=SELECTOR_OF_OURS)


async def test_rbac_grants_what_is_called_and_no_more(kubernetes: FakeKubernetes, cluster: Cluster, operator: Operator) -> None:
    await lead(kubernetes, cluster)
    await corrected(kubernetes, operator)
    patch(kubernetes, SERVER, database={}, ingress={"host": "aiki.example.com"}, gateway={"parentRefs": [{"name": "g"}]})
    for _ in range(2):
        await operator.server()  # the second one asks why there are no pods yet
    await operator.server_until_ready()
    claim = {"kind": "PersistentVolumeClaim", "metadata": {"name": "data-aiki-postgres-0", "namespace": "shop"}}
    kubernetes.put({**claim, "apiVersion": "v1", "spec": {"volumeName": "pv", "resources": {"requests": {"storage": "1Gi"}}}})
    patch(kubernetes, SERVER, database={"managed": {"backup": {"volume": {}}}})
    await operator.server_until_ready()
    patch(kubernetes, SERVER, database={"managed": {"backup": {"volume": {}, "schedule": "0 4 * * *"}}})
    await operator.server_until_ready()
    less = {"podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}}
    kubernetes.put({**kubernetes.objects[SERVER], "spec": {"image": "example.com/aiki-server:2", **less}})
    await operator.server_until_ready()
    await operator.pool()
    pods = start_pods(kubernetes)
    await operator.pool(reading(*pods))
    kubernetes.put({**kubernetes.objects[POOL], "spec": {**kubernetes.objects[POOL]["spec"], "image": "example.com/onboarding:2"}})
    newer = parse_pool(kubernetes.objects[POOL]).build
    await operator.pool(reading(*pods))
    both = load(build_load(newer), build_load(BUILD), workers=tuple(
        worker(name, build=newer if newer in name else BUILD, draining=newer not in name) for name in (*start_pods(kubernetes), "gone")
    ))  # fmt: skip
    await operator.pool(both)
    await operator.pool(both)
    for name in [name for kind, _, name in kubernetes.objects if kind == "Pod" and BUILD in name]:
        del kubernetes.objects["Pod", "shop", name]
        operator.store.drop(Key("Pod", "shop", name))
    await operator.pool(load(build_load(newer), build_load(BUILD)))
    await operator.pool(load(build_load(newer), build_load(BUILD)))
    patch(kubernetes, POOL, envFrom=[{"configMapRef": {"name": "settings"}}])
    await operator.pool(load(build_load(newer), build_load(BUILD)))
    for wrong in ("nodeSelectr", "nodeSelector", "nodeSelectr"):
        operator.clock.now += 20
        patch(kubernetes, POOL, template={"spec": {wrong: {}}})
        await operator.pool(load(build_load(newer), build_load(BUILD)))
    watched = {("watch", group, plural) for group, _, plural in WATCHED.values()}
    assert set(kubernetes.asked) | watched == granted()

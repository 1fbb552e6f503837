"""What the API server does not take concerns what it is about and nothing else: every other write of the turn goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aiki_operator.kubernetes.client import Cluster
from aiki_operator.names import COMPONENT, DELETION_COST, MIGRATED
from aiki_operator.scaling.autoscale import LoadRates
from aiki_operator.scaling.load import Load
from aiki_operator.server_api import ServerApiError
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import build_load, load, pool_body, server_body, worker
from support.operator.turns import BUILD, POOL, SERVER, Operator, condition, patch, reading, ready, start_pods

OLD = ("Deployment", "shop", f"onboarding-{BUILD}")


@pytest.fixture
def there() -> list[dict[str, Any]]:
    return [server_body(), pool_body(minReplicas=0)]


async def serving(kubernetes: FakeKubernetes, operator: Operator) -> list[str]:
    """The pool serves with one pod; its pods."""
    await operator.pool()
    pods = start_pods(kubernetes)
    await operator.pool(reading(*pods, active=3))
    assert ready(kubernetes, POOL) == ("True", "Ready")
    return pods


def busy(*pods: str, queued: int = 25) -> Load:
    return load(build_load(BUILD, queued=queued), workers=tuple(worker(pod, build=BUILD) for pod in pods), rates=LoadRates(0.0, 60.0))


def reasons(kubernetes: FakeKubernetes, *, warning: bool) -> list[str]:
    return [one["reason"] for one in kubernetes.of("Event") if (one["type"] == "Warning") is warning]


WRONG: list[Any] = [
    pytest.param({"template": {"spec": {"nodeSelectr": {"a": "b"}}}}, "spec.template.spec.nodeSelectr", id="unknown field"),
    pytest.param(
        {"template": {"spec": {"containers": [{"name": "worker", "imagee": "x"}]}}},
        'spec.template.spec.containers[name="worker"].imagee',
        id="unknown field of the container",
    ),
    pytest.param({"template": {"spec": {"containers": "x"}}}, "spec.template.spec.containers", id="wrong type"),
    pytest.param({"resources": {"requests": {"cpu": "lots"}}}, "spec.resources.requests.cpu: lots", id="quantity"),
    pytest.param(
        {"template": {"spec": {"containers": [{"name": "worker", "resources": {"limits": {"memory": "1 GB"}}}]}}},
        "spec.template.spec.containers[0].resources.limits.memory: 1 GB",
        id="quantity in the template",
    ),
]


@pytest.mark.parametrize(("wrong", "path"), WRONG)
async def test_wrong_spec_stalls_with_its_field_and_the_serving_build_goes_on(
    kubernetes: FakeKubernetes, operator: Operator, wrong: dict[str, Any], path: str
) -> None:
    pods = await serving(kubernetes, operator)
    patch(kubernetes, POOL, **wrong)
    await operator.pool(busy(*pods))
    assert kubernetes.objects[OLD]["spec"]["replicas"] == 3
    stalled = condition(kubernetes, POOL, "Stalled")
    assert (stalled["status"], stalled["reason"], stalled["observedGeneration"]) == ("True", "ManifestRefused", 2)
    assert path in stalled["message"]
    assert f"build {BUILD} goes on serving" in stalled["message"]
    assert ready(kubernetes, POOL) == ("False", "ManifestRefused")
    assert reasons(kubernetes, warning=True) == ["ManifestRefused"]
    assert reasons(kubernetes, warning=False) == ["ScaledUp", "Promoted", "ScaledUp"]


@pytest.mark.parametrize(("wrong", "path"), WRONG)
async def test_wrong_spec_of_a_new_pool_is_told_and_no_event_says_what_did_not_happen(
    kubernetes: FakeKubernetes, operator: Operator, wrong: dict[str, Any], path: str
) -> None:
    patch(kubernetes, POOL, **wrong)
    for _ in range(20):
        await operator.pool()
        operator.clock.now += 1
    assert ready(kubernetes, POOL) == ("False", "ManifestRefused")
    assert path in condition(kubernetes, POOL, "Ready")["message"]
    assert (reasons(kubernetes, warning=True), reasons(kubernetes, warning=False)) == (["ManifestRefused"], [])


@pytest.mark.parametrize(
    ("wrong", "path"),
    [
        ({"template": {"spec": {"nodeSelectr": {"a": "b"}}}}, "spec.template.spec.nodeSelectr"),
        ({"resources": {"requests": {"cpu": "lots"}}}, "spec.resources.requests.cpu: lots"),
        (
            {"database": {"managed": {"template": {"spec": {"nodeSelectr": {"a": "b"}}}}}},
            "spec.database.managed.template.spec.nodeSelectr",
        ),
        ({"redis": {"managed": {"resources": {"limits": {"memory": "much"}}}}}, "spec.redis.managed.resources.limits.memory: much"),
    ],
)
async def test_wrong_spec_of_a_server_is_told_and_its_size_is_obeyed(
    kubernetes: FakeKubernetes, operator: Operator, wrong: dict[str, Any], path: str
) -> None:
    await operator.server_until_ready()
    patch(kubernetes, SERVER, replicas=3, **wrong)
    await operator.server()
    assert kubernetes.objects["Deployment", "shop", "aiki"]["spec"]["replicas"] == 3
    assert ready(kubernetes, SERVER) == ("False", "ManifestRefused")
    assert path in condition(kubernetes, SERVER, "Stalled")["message"]
    assert reasons(kubernetes, warning=True) == ["ManifestRefused"]


@pytest.mark.parametrize("kind", ["Service", "PodDisruptionBudget", "StatefulSet", "Secret", "Event", "Ingress"])
async def test_a_kind_that_is_refused_keeps_no_other_from_being_written(kubernetes: FakeKubernetes, operator: Operator, kind: str) -> None:
    kubernetes.put(server_body(ingress={"host": "aiki.example.com"}))
    await operator.server_until_ready()
    kubernetes.refuse[kind] = (403, "exceeded quota: objects, requested: count=1")
    patch(kubernetes, SERVER, replicas=2, env=[{"name": "A", "value": "1"}], service={"port": 80}, ingress={"host": "other.example.com"},
          database={"managed": {"image": "postgres:18"}}, podDisruptionBudget={"enabled": True})  # fmt: skip
    for _ in range(3):
        await operator.server()
    deployment = kubernetes.objects["Deployment", "shop", "aiki"]
    assert deployment["spec"]["replicas"] == 2
    assert "1" in [one.get("value") for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]]


async def test_webhook_that_is_down_concerns_its_object_and_is_no_fault_of_the_spec(kubernetes: FakeKubernetes, operator: Operator) -> None:
    pods = await serving(kubernetes, operator)
    kubernetes.refuse["Deployment"] = (500, 'Internal error occurred: failed calling webhook "policy.example.com": connection refused')
    await operator.pool(busy(*pods))
    assert ready(kubernetes, POOL) == ("False", "WriteFailed")
    assert condition(kubernetes, POOL, "Stalled")["status"] == "False"
    assert "failed calling webhook" in condition(kubernetes, POOL, "Reconciling")["message"]
    del kubernetes.refuse["Deployment"]
    operator.clock.now += 5
    await operator.pool(busy(*pods))
    assert kubernetes.objects[OLD]["spec"]["replicas"] == 3
    await operator.pool(busy(*pods))
    assert ready(kubernetes, POOL) == ("True", "Ready")
    assert reasons(kubernetes, warning=False)[-1] == "Ready"


async def test_pods_that_cannot_be_marked_hold_the_size(kubernetes: FakeKubernetes, operator: Operator) -> None:
    """S44: Kubernetes would take any pod."""
    patch(kubernetes, POOL, replicas=2)
    await operator.pool()
    first, second = start_pods(kubernetes)
    patch(kubernetes, POOL, replicas=1)
    kubernetes.refuse["Pod"] = (403, "annotations are not allowed here")
    drained = load(
        build_load(BUILD, running=4, busy_workers=1),
        workers=(worker(first, build=BUILD, active=4), worker(second, build=BUILD, draining=True)),
    )
    await operator.pool(drained)
    assert kubernetes.objects[OLD]["spec"]["replicas"] == 2
    assert "annotations are not allowed here" in condition(kubernetes, POOL, "Stalled")["message"]
    kubernetes.refuse.clear()
    operator.clock.now += 5
    await operator.pool(drained)
    assert kubernetes.objects[OLD]["spec"]["replicas"] == 1
    assert kubernetes.objects["Pod", "shop", second]["metadata"]["annotations"] == {DELETION_COST: "-1000"}


async def test_order_that_the_server_does_not_take_is_told_and_the_size_still_follows(
    kubernetes: FakeKubernetes, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> None:
        raise ServerApiError("ServerError", "the server answers 500")

    monkeypatch.setattr(operator.orders, "promote", refuse)
    await operator.pool()
    pods = start_pods(kubernetes)
    await operator.pool(
        load(build_load(BUILD, promoted=False, queued=25), workers=(worker(pods[0], build=BUILD),), rates=LoadRates(0.0, 60.0))
    )
    assert "servingBuild" not in kubernetes.objects[POOL]["status"]
    assert condition(kubernetes, POOL, "ServerReachable")["reason"] == "ServerError"
    assert ready(kubernetes, POOL)[0] == "False"
    assert "Promoted" not in reasons(kubernetes, warning=False)


# ---- at rest ------------------------------------------------------------------------------------------------------


def always(body: dict[str, Any]) -> dict[str, Any]:
    """A webhook that pulls every image always, labels everything, tolerates, and mirrors images."""
    if body["kind"] not in ("Deployment", "StatefulSet", "Job"):
        return body
    pod = body["spec"]["template"]["spec"]
    containers = [{**one, "imagePullPolicy": "Always", "image": one["image"].replace("example.com", "mirror")} for one in pod["containers"]]
    spec = {**pod, "containers": containers, "tolerations": [{"operator": "Exists"}]}
    labels = {**body["metadata"]["labels"], COMPONENT: "theirs"}
    template = {**body["spec"]["template"], "spec": spec}
    return {**body, "metadata": {**body["metadata"], "labels": labels}, "spec": {**body["spec"], "template": template}}


def without_notes(body: dict[str, Any]) -> dict[str, Any]:
    """A webhook that takes our annotations away."""
    return {**body, "metadata": {name: part for name, part in body["metadata"].items() if name != "annotations"}}


def sidecar(body: dict[str, Any]) -> dict[str, Any]:
    """A mesh that puts its container before ours, an init container, a volume and a pull secret into each template, and notes when."""
    if body["kind"] not in ("Deployment", "StatefulSet", "Job"):
        return body
    template = body["spec"]["template"]
    pod, meta = template["spec"], template["metadata"]
    proxy = {"name": "proxy", "image": "mesh/proxy:1"}
    spec = {
        **pod,
        "containers": [proxy, *(one for one in pod["containers"] if one["name"] != "proxy")],
        "initContainers": [{"name": "redirect", "image": "mesh/init:1"}, *(pod.get("initContainers") or ())],
        "volumes": [*(one for one in pod.get("volumes") or () if one["name"] != "certificates"), {"name": "certificates", "emptyDir": {}}],
        "imagePullSecrets": [{"name": "mesh"}],
    }
    spec["initContainers"] = list({one["name"]: one for one in spec["initContainers"]}.values())
    notes = {**meta.get("annotations", {}), "mesh/injected": "true"}
    return {**body, "spec": {**body["spec"], "template": {**template, "metadata": {**meta, "annotations": notes}, "spec": spec}}}


@pytest.mark.parametrize("webhook", [always, without_notes, sidecar])
async def test_server_gets_ready_whatever_admission_makes_of_it_and_then_nothing_is_written(
    kubernetes: FakeKubernetes, operator: Operator, cluster: Cluster, webhook: Callable[[Any], Any]
) -> None:
    kubernetes.admit.append(webhook)
    await operator.server_until_ready()
    await operator.server()
    assert ready(kubernetes, SERVER) == ("True", "Ready")
    assert await operator.server() == []
    patch(kubernetes, SERVER, replicas=2)
    assert ("patch", "deployments") in await operator.server()
    again = Operator(kubernetes, cluster)
    await again.server()
    assert [one for one in await again.server() if one[1] != "aikiservers/status"] == []


@pytest.mark.parametrize("webhook", [always, sidecar])
async def test_pool_gets_ready_whatever_admission_makes_of_it_and_then_nothing_is_written(
    kubernetes: FakeKubernetes, operator: Operator, webhook: Callable[[Any], Any]
) -> None:
    kubernetes.admit.append(webhook)
    pods = await serving(kubernetes, operator)
    assert await operator.pool(reading(*pods, active=3)) == []


async def test_fields_that_an_older_crd_prunes_are_not_written_for_ever(kubernetes: FakeKubernetes, operator: Operator) -> None:
    kubernetes.pruned = {"builds"}
    pods = await serving(kubernetes, operator)
    assert await operator.pool(reading(*pods, active=3)) == []


def resources(writes: list[tuple[str, str]]) -> dict[str, int]:
    return {one: sum(1 for _, resource in writes if resource == one) for one in {resource for _, resource in writes}}


async def test_stranger_who_never_stops_costs_five_writes_a_minute_and_is_named(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await operator.server_until_ready()
    writes: list[tuple[str, str]] = []
    for _ in range(60):
        live = kubernetes.objects["Deployment", "shop", "aiki"]
        kubernetes.put({**live, "spec": {**live["spec"], "replicas": 7, "revisionHistoryLimit": 9}})
        writes += await operator.server()
        operator.clock.now += 1
    assert resources(writes)["deployments"] == 5 - 1  # it was made in the same minute
    assert ready(kubernetes, SERVER) == ("False", "Contested")
    assert "spec.replicas, spec.revisionHistoryLimit" in condition(kubernetes, SERVER, "Stalled")["message"]
    operator.clock.now += 60
    await operator.server()
    assert kubernetes.objects["Deployment", "shop", "aiki"]["spec"]["replicas"] == 1


@pytest.mark.parametrize("answer", [(422, "no"), (500, "Internal error occurred: failed calling webhook"), (503, "etcd has no leader")])
async def test_what_is_refused_is_tried_five_times_a_minute(
    kubernetes: FakeKubernetes, operator: Operator, answer: tuple[int, str]
) -> None:
    kubernetes.refuse["Deployment"] = answer
    writes: list[tuple[str, str]] = []
    for _ in range(60):
        writes += await operator.pool()
        operator.clock.now += 1
    assert resources(writes) == {"deployments": 5, "aikiworkerpools/status": 1, "events": 1}


async def test_new_spec_is_tried_at_once_though_the_last_one_was_refused(kubernetes: FakeKubernetes, operator: Operator) -> None:
    patch(kubernetes, POOL, template={"spec": {"nodeSelectr": {}}})
    await operator.pool()
    patch(kubernetes, POOL, template={"spec": {"nodeSelector": {"a": "b"}}})
    assert ("patch", "deployments") in await operator.pool()
    assert condition(kubernetes, POOL, "Stalled")["status"] == "False"


async def test_event_that_repeats_itself_is_counted_up(kubernetes: FakeKubernetes, operator: Operator) -> None:
    for _ in range(3):
        for wrong in ("nodeSelectr", "nodeSelector"):
            patch(kubernetes, POOL, template={"spec": {wrong: {}}})
            await operator.pool()
            operator.clock.now += 20
    told = [one for one in kubernetes.of("Event") if one["reason"] == "ManifestRefused"]
    assert [one["count"] for one in told] == [3]
    assert (told[0]["type"], told[0]["involvedObject"]["name"]) == ("Warning", "onboarding")


async def test_each_step_of_a_server_is_told_once(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await operator.server_until_ready()
    await operator.server()
    told = kubernetes.of("Event")
    assert [one["reason"] for one in told] == ["WaitingForSecrets", "Migrating", "RollingOut", "Serving"]
    assert {one["involvedObject"]["kind"] for one in told} == {"AikiServer"}


# ---- what a Job or StatefulSet waits for --------------------------------------------------------------------------


async def test_quota_is_told_though_only_an_event_says_it(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await operator.server()
    job = kubernetes.objects["StatefulSet", "shop", "aiki-postgres"]
    reference = {"kind": "StatefulSet", "name": "aiki-postgres", "uid": job["metadata"]["uid"]}
    kubernetes.put(
        {
            "kind": "Event",
            "metadata": {"name": "e", "namespace": "shop"},
            "involvedObject": reference,
            "reason": "FailedCreate",
            "message": 'pods "aiki-postgres-0" is forbidden: failed quota: small: must specify limits.cpu',
            "lastTimestamp": "2026-01-01T00:00:00Z",
        }
    )
    await operator.server()
    assert ready(kubernetes, SERVER) == ("False", "PodsRefused")
    assert "must specify limits.cpu" in condition(kubernetes, SERVER, "Stalled")["message"]


async def test_job_that_a_sidecar_keeps_is_noted_and_its_pods_are_ended(kubernetes: FakeKubernetes, operator: Operator) -> None:
    for _ in range(2):
        await operator.server()
        for where in [one for one in kubernetes.objects if one[0] == "StatefulSet"]:
            kubernetes.status(where, readyReplicas=1)
    await operator.server()
    (job,) = kubernetes.of("Job")
    name = job["metadata"]["name"]
    kubernetes.status(("Job", "shop", name), active=1)
    ended = {"exitCode": 0, "reason": "Completed", "finishedAt": "2026-01-01T12:00:00Z"}
    labels = {**job["metadata"]["labels"], "job-name": name}
    containers = [{"name": "migrate", "state": {"terminated": ended}}, {"name": "proxy", "state": {"running": {}}}]
    status = {"phase": "Running", "containerStatuses": containers}
    kubernetes.put({"kind": "Pod", "metadata": {"name": "m", "namespace": "shop", "labels": labels}, "status": status})
    await operator.server()
    found = kubernetes.objects["Job", "shop", name]
    assert (found["spec"]["suspend"], found["metadata"]["annotations"][MIGRATED]) == (True, "true")
    assert condition(kubernetes, SERVER, "SchemaMigrated")["status"] == "True"
    assert ("Deployment", "shop", "aiki") in kubernetes.objects

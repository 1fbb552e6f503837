"""Scenario 10: the operator is granted what it uses and nothing else; every pod meets the restricted standard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from e2e import gateway
from e2e.conftest import Figure, pool
from e2e.kube import Json, Kube, named, time_until

pytestmark = pytest.mark.asyncio(loop_scope="session")

COUNTED_UP_AFTER_SECONDS = 15.0
OPERATOR = "system:serviceaccount:aiki:aiki-operator"


class Right(NamedTuple):
    """A verb on a resource."""

    group: str
    resource: str
    verb: str


async def test_what_is_granted_is_what_is_used(aiki: Kube, figure: Figure) -> None:
    if aiki.site.audit is None:
        pytest.skip("this cluster keeps no audit log")
    await _use_what_is_rare(aiki)
    granted = {right for rule in await _rules(aiki) for right in _rights(rule)}
    used, refused = set[Right](), set[Right]()
    since = (await aiki.get("Deployment", "aiki-operator") or {})["metadata"]["creationTimestamp"]
    for line in aiki.site.audit.read_text().splitlines():
        entry = json.loads(line)
        # An operator that was uninstalled may ask for its Lease once more when its Role is gone.
        if entry["user"]["username"] == OPERATOR and "objectRef" in entry and entry["requestReceivedTimestamp"] >= since:
            (refused if _forbidden(entry) else used).update(_asked(entry))
    figure(
        "10 rights granted; granted and not used; asked for and refused",
        f"{len(granted)}; {_list(granted - used)}; {_list(refused)} (must be none)",
    )
    assert granted - used == set()
    assert refused == set()


async def test_pods_meet_the_restricted_standard(aiki: Kube, figure: Figure) -> None:
    namespace = json.loads(await aiki.run("kubectl", "get", "namespace", "aiki", "-o", "json"))
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = await aiki.all("Pod")
    containers = [container for pod in pods for container in pod["spec"]["containers"]]
    writable = [one["name"] for one in containers if not one["securityContext"].get("readOnlyRootFilesystem")]
    unbound = [one["name"] for one in containers if not {"requests", "limits"} <= one["resources"].keys()]
    assert not unbound, "containers without requests or without a memory limit"
    figure("10 containers under enforcement; with a writable root", f"{len(containers)}; {len(writable)}")
    assert containers
    assert not writable


async def _back_up(kube: Kube) -> None:
    """On a server of its own, which nobody waits for."""

    async def wants(managed: dict[str, Any]) -> None:
        spec = {"replicas": 0, "database": {"managed": {"deletionPolicy": "Delete", **managed}}}
        await kube.apply(named("AikiServer", "saved", spec))

    async def schedule() -> str | None:
        body = await kube.get("CronJob", "saved-postgres-backup")
        return None if body is None else str(body["spec"]["schedule"])

    async def is_now(wanted: str | None) -> bool:
        return await schedule() == wanted

    for wanted in ("0 3 * * *", "0 4 * * *"):
        await wants({"backup": {"schedule": wanted, "volume": {"size": "1Gi", "deletionPolicy": "Delete"}}})
        await time_until("backups are asked for", lambda wanted=wanted: is_now(wanted), 60)  # type: ignore[misc]
    await wants({})
    await time_until("no backups are asked for", lambda: is_now(None), 60)
    await kube.kubectl("delete", "aikiserver", "saved")


async def _use_what_is_rare(kube: Kube) -> None:
    """A trouble that comes twice, so that its event is counted up; what is optional, made and taken away; a ConfigMap that a pool reads."""
    wrong = pool(template={"spec": {"nodeSelectr": {}}})
    await kube.apply(named("AikiWorkerPool", "wrong", wrong))
    await time_until("the trouble is an event", lambda: _refusals(kube), 30)

    async def patch(spec: dict[str, Any]) -> None:
        await kube.kubectl("patch", "aikiserver/aiki", "--type=merge", "--patch", json.dumps({"spec": spec}))

    async def there(kind: str, wanted: bool) -> bool:
        return (await kube.get(kind, "aiki") is not None) is wanted

    await _back_up(kube)
    lacks_routes = await gateway.install(kube)
    ways = {"ingress": {"host": "aiki.example.com"}, "gateway": {"parentRefs": [{"name": "public"}], "hosts": ["aiki.example.com"]}}
    await patch({**ways, "podDisruptionBudget": {"enabled": False}, "networkPolicy": {"enabled": False}})
    await time_until("there is no policy", lambda: there("NetworkPolicy", False), 30)
    await time_until("there is an Ingress", lambda: there("Ingress", True), 30)
    await time_until("there is a route", lambda: there("HTTPRoute", True), 30)
    await time_until("there is no budget", lambda: there("PodDisruptionBudget", False), 30)
    await kube.ready("AikiServer", "aiki", 30)
    await _hear(kube, "Accepted", "True")
    await time_until("the condition says that it is taken", lambda: _route_says(kube, "True", "Accepted"), 30)
    await _hear(kube, "Accepted", "False")
    await time_until("the condition says that it is not", lambda: _route_says(kube, "False", "Said"), 30)
    await patch({"ingress": None, "gateway": None, "podDisruptionBudget": {"enabled": True}, "networkPolicy": None})
    await time_until("there is a policy", lambda: there("NetworkPolicy", True), 30)
    await time_until("there is no Ingress", lambda: there("Ingress", False), 30)
    await time_until("there is no route", lambda: there("HTTPRoute", False), 30)
    if lacks_routes:
        await gateway.remove(kube)
    await time_until("there is a budget", lambda: there("PodDisruptionBudget", True), 30)
    await asyncio.sleep(COUNTED_UP_AFTER_SECONDS)  # an event is counted up no more often
    await kube.apply(named("AikiWorkerPool", "wrong", pool(envFrom=[{"configMapRef": {"name": "extra", "optional": True}}])))
    await time_until("the trouble is over", lambda: _refusal_is_over(kube), 30)
    await kube.apply(named("AikiWorkerPool", "wrong", wrong))
    await time_until("the event is counted up", lambda: _refusals(kube, count=2), 30)
    await kube.kubectl("delete", "aikiworkerpool/wrong")
    await _put_a_storage_class_right(kube)


async def _put_a_storage_class_right(kube: Kube) -> None:
    """A second server waits for a volume of a class that there is not, until its StatefulSet and its claim are made anew."""

    def typed(name: str) -> Json:
        return named("AikiServer", "late", {"database": {"managed": {"storage": {"className": name}}, "type": "Managed"}})

    async def asks_for(name: str) -> bool:
        claim = await kube.get("PersistentVolumeClaim", "data-late-postgres-0") or {}
        return bool(claim.get("spec", {}).get("storageClassName") == name)

    await kube.apply(typed("standrad"))
    await time_until("the claim asks for a class that there is not", lambda: asks_for("standrad"), 60)
    await kube.apply(typed("standard"))
    await time_until("the claim asks for the right one", lambda: asks_for("standard"), 60)
    await kube.kubectl("delete", "aikiserver/late")
    await kube.kubectl("delete", "persistentvolumeclaim", "--selector=aiki.dev/server=late", "--wait=false")


async def _hear(kube: Kube, kind: str, status: str) -> None:
    """What a gateway's controller would write."""
    said = {"type": kind, "status": status, "reason": "Said", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    answer = {"parentRef": {"name": "public"}, "controllerName": "example.com/gateway", "conditions": [said]}
    patch = json.dumps({"status": {"parents": [answer]}})
    await kube.kubectl("patch", "httproute/aiki", "--subresource=status", "--type=merge", "--patch", patch)


async def _route_says(kube: Kube, status: str, reason: str) -> bool:
    found = await kube.condition("AikiServer", "aiki", "RouteAccepted")
    return (found.get("status"), found.get("reason")) == (status, reason)


async def _refusals(kube: Kube, count: int = 1) -> bool:
    return any(one["reason"] == "ManifestRefused" and one["count"] >= count for one in await kube.events("wrong"))


async def _refusal_is_over(kube: Kube) -> bool:
    return (await kube.condition("AikiWorkerPool", "wrong", "Stalled")).get("status") == "False"


async def _rules(kube: Kube) -> list[dict[str, Any]]:
    cluster = json.loads(await kube.run("kubectl", "get", "clusterrole", "aiki-aiki-operator", "-o", "json"))
    lease = json.loads(await kube.kubectl("get", "role", "aiki-operator-lease", "-o", "json"))
    return [*cluster["rules"], *lease["rules"]]


def _rights(rule: dict[str, Any]) -> Iterator[Right]:
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            yield from (Right(group, resource, verb) for verb in rule["verbs"])


def _forbidden(entry: dict[str, Any]) -> bool:
    """Whether the right was missing; a 403 also answers what comes too late for a namespace that is going."""
    return bool(entry["annotations"]["authorization.k8s.io/decision"] == "forbid")


def _asked(entry: dict[str, Any]) -> Iterator[Right]:
    """The rights that a request needed: an apply that created the object needed two."""
    reference = entry["objectRef"]
    resource = "/".join(filter(None, (reference["resource"], reference.get("subresource"))))
    yield Right(reference.get("apiGroup", ""), resource, entry["verb"])
    if entry["verb"] == "patch" and entry["responseStatus"]["code"] == 201:
        yield Right(reference.get("apiGroup", ""), resource, "create")


def _list(rights: set[Right]) -> str:
    return ", ".join(sorted(f"{right.verb} {right.resource}" for right in rights)) or "none"

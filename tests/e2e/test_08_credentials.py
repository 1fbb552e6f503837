"""Scenario 8: what people do to passwords, volumes and templates, and what the operator makes of it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from e2e.conftest import Figure, pool
from e2e.kube import Kube, named, time_until
from e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_rotated_password_is_taken_over(aiki: Kube, service: Service, figure: Figure) -> None:
    before = (await aiki.get("Pod", "aiki-postgres-0") or {})["metadata"]["uid"]
    patch = {"stringData": {"password": "rotated by / a person"}}
    await aiki.kubectl("patch", "secret/aiki-postgres", "--type=merge", "--patch", json.dumps(patch))

    async def restarted() -> bool:
        found = await aiki.get("Pod", "aiki-postgres-0")
        return found is not None and found["metadata"]["uid"] != before

    took = await time_until("Postgres has begun again", restarted, 60)
    took += await aiki.ready("AikiServer", "aiki")
    secret = await aiki.get("Secret", "aiki-postgres") or {}
    assert "rotated%20by%20%2F%20a%20person" in base64.b64decode(secret["data"]["uri"]).decode()
    await _works(aiki, service)
    figure("8 a rotated password: everything goes on after", f"{took:.1f} s")


async def test_lost_password_is_not_guessed(aiki: Kube, service: Service, figure: Figure) -> None:
    await aiki.kubectl("delete", "secret", "aiki-postgres")
    await time_until("the server says what is lost", lambda: _stalled(aiki, "aiki", "SecretLost"), 60)
    assert await aiki.get("Secret", "aiki-postgres") is None
    await aiki.kubectl("create", "secret", "generic", "aiki-postgres", "--from-literal=password=chosen")
    took = await aiki.ready("AikiServer", "aiki")
    await _works(aiki, service)
    figure("8 a lost Secret: SecretLost, and with a new password ready after", f"{took:.1f} s")


async def test_servers_role_is_no_superuser(aiki: Kube) -> None:
    ask = "select rolsuper or rolcreaterole or rolreplication from pg_roles where rolname = current_user"
    words = ("exec", "aiki-postgres-0", "--container=postgres", "--", "psql", "--username=aiki", "--tuples-only", "--command", ask)
    assert (await aiki.kubectl(*words)).strip() == "f"


async def test_volume_never_shrinks_and_what_cannot_grow_holds_up_nothing(aiki: Kube) -> None:
    """On a server of its own: where the StorageClass cannot do it, the larger size waits for a person, who can take it back."""
    managed = {"deletionPolicy": "Delete", "storage": {"size": "2Gi"}}
    await aiki.apply(named("AikiServer", "roomy", {"database": {"managed": managed}}))
    await aiki.ready("AikiServer", "roomy")
    assert "a volume can grow and never shrink" in await _resized(aiki, "1Gi", ok=False)
    await _resized(aiki, "3Gi")
    await aiki.kubectl("patch", "aikiserver/roomy", "--type=merge", "--patch", '{"spec":{"replicas":2}}')

    async def scaled() -> bool:
        body = await aiki.get("Deployment", "roomy") or {}
        return bool(body["spec"]["replicas"] == 2)

    await time_until("the server is scaled, whatever became of the volume", scaled, 60)
    claim = await aiki.kubectl("get", "persistentvolumeclaim/data-roomy-postgres-0", "--output=jsonpath={.spec.resources.requests.storage}")
    condition = await aiki.condition("AikiServer", "roomy", "RolloutComplete")
    assert claim == "3Gi" or condition.get("reason") == "ManifestRefused", (claim, condition)
    if claim == "2Gi":
        assert "a volume can grow and never shrink" in await _resized(aiki, "1Gi", ok=False)
        await _resized(aiki, "2Gi")
        await aiki.ready("AikiServer", "roomy")
    await aiki.kubectl("delete", "aikiserver", "roomy")


async def test_template_that_reaches_for_the_node_is_refused_with_its_path(aiki: Kube, figure: Figure) -> None:
    template = {"spec": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}}
    await aiki.apply(named("AikiWorkerPool", "greedy", pool(template=template)))
    took = await time_until("the pool says what is wrong", lambda: _stalled(aiki, "greedy", "TemplateForbidden", kind="AikiWorkerPool"), 30)
    message = (await aiki.condition("AikiWorkerPool", "greedy", "Stalled"))["message"]
    assert "hostPath" in message
    figure("8 a template with a host mount: refused after", f"{took:.1f} s")
    await aiki.kubectl("delete", "aikiworkerpool", "greedy")


async def test_pool_of_another_namespace_works_once_it_is_admitted(aiki: Kube, service: Service, figure: Figure) -> None:
    team = aiki.inside("team-a")
    await aiki.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}})
    try:
        spec = {**pool(minReplicas=1), "serverRef": {"name": "aiki", "namespace": "aiki"}}
        await team.apply(named("AikiWorkerPool", "guests", spec))
        await time_until("the pool says that it is not admitted", lambda: _unreached(team, "guests", "NotAllowed"), 30)
        assert await team.get("Secret", "guests-pool") is None
        patch = '{"spec":{"allowedNamespaces":{"from":"Names","names":["team-a"]}}}'
        await aiki.kubectl("patch", "aikiserver/aiki", "--type=merge", "--patch", patch)
        took = await team.ready("AikiWorkerPool", "guests")
        await service.finished(await service.start("napping", [0.0], pool="guests"), 60)
        figure("8 a pool of another namespace: ready after it was admitted", f"{took:.1f} s")
    finally:
        await team.kubectl("delete", "aikiworkerpool", "guests", "--ignore-not-found")
        await aiki.run("kubectl", "delete", "namespace", "team-a", "--wait=false")


async def test_token_of_applications_is_no_workers(aiki: Kube, service: Service) -> None:
    secret = await aiki.get("Secret", "aiki-client") or {}
    client = service.with_token(base64.b64decode(secret["data"]["AIKI_TOKEN"]).decode())
    assert (await client.call("GET", "/runs?limit=1"))[0] == 200
    assert (await client.call("POST", "/workers/nobody/lost"))[0] == 403


async def test_nothing_that_outlives_its_owner_looks_like_a_gitops_tools_own(aiki: Kube) -> None:
    found = await aiki.kubectl("get", "persistentvolumeclaims,secrets", "--selector=app.kubernetes.io/instance=aiki", "--output=json")
    items: list[dict[str, Any]] = json.loads(found)["items"]
    assert [
        one["metadata"]["name"] for one in items if not one["metadata"].get("ownerReferences") and "helm.sh" not in one.get("type", "")
    ] == []


async def _works(kube: Kube, service: Service) -> None:
    """A run goes from start to end."""
    await kube.apply(named("AikiWorkerPool", "proof", pool(minReplicas=1)))
    await kube.ready("AikiWorkerPool", "proof")
    await service.finished(await service.start("napping", [0.0], pool="proof"), 60)
    await kube.kubectl("delete", "aikiworkerpool", "proof")


async def _stalled(kube: Kube, name: str, reason: str, *, kind: str = "AikiServer") -> bool:
    found = await kube.condition(kind, name, "Stalled")
    return (found.get("status"), found.get("reason")) == ("True", reason)


async def _unreached(kube: Kube, name: str, reason: str) -> bool:
    return bool((await kube.condition("AikiWorkerPool", name, "ServerReachable")).get("reason") == reason)


async def _resized(kube: Kube, size: str, *, ok: bool = True) -> str:
    patch = json.dumps({"spec": {"database": {"managed": {"storage": {"size": size}}}}})
    return await kube.kubectl("patch", "aikiserver/roomy", "--type=merge", "--patch", patch, ok=ok)

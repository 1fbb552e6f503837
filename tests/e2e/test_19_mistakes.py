"""What people mistype, or take away in one go, and what only a cluster shows: how it is put right, and that it ends."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
import pytest_asyncio

from aiki_operator.manifests.worker import STOP_SECONDS
from e2e.conftest import ROOT, WALLED, Figure, cleared, pool
from e2e.kube import Json, Kube, named, time_until
from e2e.service import reach

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOME, TEAM, _ = WALLED
OPERATOR = f"system:serviceaccount:{HOME}:aiki-operator"
SETTLED_SECONDS = 30
"""After it is ready a server is looked at once more as if it were not."""
NAPS, DRAIN_SECONDS = 3, 10


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def home(cluster: Kube, images: None) -> AsyncIterator[Kube]:
    """An operator, without any server yet."""
    await cleared(cluster.inside("aiki"))
    found = cluster.inside(HOME)
    for name in (HOME, TEAM):
        await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    values = ("--set", "operator.clusterWide=true", "--set", "server.create=false", "--wait")
    await found.helm("install", "aiki", str(ROOT / "charts" / "aiki"), *values)
    yield found
    await found.helm("uninstall", "aiki", ok=False)
    await cleared(found)


async def test_mistyped_storage_class_is_put_right_as_long_as_there_is_no_volume(home: Kube, figure: Figure) -> None:
    await home.apply(named("AikiServer", "aiki", {"allowedNamespaces": {"from": "All"}, **_of_class("standrad")}))

    async def waits() -> bool:
        claim = await home.get("PersistentVolumeClaim", "data-aiki-postgres-0")
        return claim is not None and claim["status"].get("phase") == "Pending"

    await time_until("the claim waits for a class that there is not", waits, 60)
    await _typed(home, "standard")
    seconds = await home.ready("AikiServer", "aiki", 180)
    figure("19 mistyped StorageClass put right, to Ready", f"{seconds:.0f} s")
    claim = await home.get("PersistentVolumeClaim", "data-aiki-postgres-0") or {}
    assert (claim["spec"]["storageClassName"], claim["status"]["phase"]) == ("standard", "Bound")
    assert "cannot be changed once there is a volume" in await _typed(home, "another", ok=False)


async def test_leader_and_standby_ask_little_while_nothing_happens(home: Kube, figure: Figure) -> None:
    """By the API server's own audit log: a minute that begins when the server is ready and the log has been quiet about it."""
    if home.site.audit is None:
        pytest.skip("this cluster keeps no audit log")
    audit = home.site.audit
    await home.ready("AikiServer", "aiki", 180)

    def asked() -> dict[str, tuple[datetime, str]]:
        lines = (json.loads(line) for line in audit.read_text().splitlines() if OPERATOR in line)
        return {
            one["auditID"]: (datetime.fromisoformat(one["requestReceivedTimestamp"]), f"{one['verb']} {one['objectRef']['resource']}")
            for one in lines
            if "objectRef" in one
        }

    began = max(at for at, _ in asked().values()) + timedelta(seconds=SETTLED_SECONDS)
    ends = began + timedelta(minutes=1)

    async def over() -> bool:
        return max(at for at, _ in asked().values()) > ends

    await time_until("a minute at rest", over, SETTLED_SECONDS + 90, every=2)
    found = Counter(what for at, what in asked().values() if began <= at < ends)
    figure("19 API requests of leader and standby in a minute at rest", f"{found.total() / 60:.2f}/s (must be at most 1.5): {found}")
    assert found.total() / 60 <= 1.5, found


async def test_namespace_with_working_workers_is_gone_in_bounded_time(home: Kube, figure: Figure) -> None:
    """Its workers let their tasks run for the pool's drain.timeoutSeconds, like any that stop, and then give them up."""
    team = home.inside(TEAM)
    await team.apply(
        named(
            "AikiWorkerPool",
            "there",
            pool(serverRef={"name": "aiki", "namespace": HOME}, minReplicas=1, drain={"timeoutSeconds": DRAIN_SECONDS}),
        )
    )
    await team.ready("AikiWorkerPool", "there")
    async with reach(home) as service:
        runs = await service.start("napping", [300.0] * NAPS, pool="there")

        async def busy() -> bool:
            return {run["status"] for run in await service.runs(runs)} == {"running"}

        await time_until("the workers work", busy, 60)
        await home.run("kubectl", "delete", "namespace", TEAM, "--wait=false")

        async def gone() -> bool:
            return "NotFound" in await home.run("kubectl", "get", "namespace", TEAM, ok=False)

        most = DRAIN_SECONDS + STOP_SECONDS
        seconds = await time_until("the namespace is gone", gone, most + 20)  # and what the kubelet and Kubernetes' own controllers take
        figure(f"19 deletion of a namespace with {NAPS} tasks of 300 s in it", f"{seconds:.0f} s (drain and stop: at most {most})")
        left = {run["status"] for run in await service.runs(runs)}
        assert left <= {"queued", "running"}, "no run is lost with the namespace"


def _of_class(name: str) -> Json:
    return {"database": {"managed": {"storage": {"className": name}}}}


async def _typed(kube: Kube, name: str, *, ok: bool = True) -> str:
    return await kube.kubectl("patch", "aikiserver", "aiki", "--type=merge", "--patch", json.dumps({"spec": _of_class(name)}), ok=ok)

"""The path of somebody new: install, a pool in a team's namespace, a run, what people break, uninstall, and another release."""

from __future__ import annotations

import json
from typing import Any

import pytest

from e2e.conftest import ROOT, Figure, cleared, pool
from e2e.kube import Kube, named, time_until
from e2e.service import reach

pytestmark = pytest.mark.asyncio(loop_scope="session")

CHART = str(ROOT / "charts" / "aiki")
NAME = "greeter"
ELSEWHERE: dict[str, Any] = {"serverRef": {"name": "aiki", "namespace": "newcomer"}}
SPEC = pool(
    **ELSEWHERE,
    minReplicas=1,
    podDisruptionBudget={"maxUnavailable": "50%"},
    podAnnotations={"example.com/team": "greeters"},
    minReplicasByTime=[{"from": "00:00", "to": "24:00", "timeZone": "Europe/Berlin", "minReplicas": 2}],
)


async def test_path_of_a_new_user(cluster: Kube, images: None, figure: Figure) -> None:
    home, team = cluster.inside("newcomer"), cluster.inside("newcomer-team")
    await cleared(cluster.inside("aiki"))
    await cluster.run("helm", "--namespace=alone", "uninstall", "aiki", ok=False)
    for name in ("newcomer", "newcomer-team"):
        await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    try:
        await home.helm("install", "first", CHART, "--set", "operator.clusterWide=true")
        await _pool_of_another_namespace(home, team)
        run = await _run(home)
        await _listings(home, team)
        for breaks in (_a_wrong_image, _a_wrong_field, _a_small_quota, _a_lost_secret):
            await breaks(team)
            assert await _run(home) != run
        await _another_release(home, team, run, figure)
    finally:
        for release in ("first", "second"):
            await home.helm("uninstall", release, ok=False)
        await cleared(home)


async def _pool_of_another_namespace(home: Kube, team: Kube) -> None:
    """Refused in words first, then admitted; everything that a worker needs is beside it."""
    await team.apply(named("AikiWorkerPool", NAME, SPEC))
    await _says(team, "ServerReachable", "NotAllowed")
    assert await team.get("Secret", f"{NAME}-pool") is None
    await _patch(home, "aikiserver/aiki", {"allowedNamespaces": {"from": "Names", "names": ["newcomer-team"]}})
    await team.ready("AikiWorkerPool", NAME)
    secret = await team.get("Secret", f"{NAME}-pool") or {}
    assert set(secret["data"]) == {"AIKI_URL", "AIKI_TOKEN", "AIKI_METRICS_TOKEN"}
    assert await team.get("NetworkPolicy", f"{NAME}-pool") is not None
    rules = (await home.get("NetworkPolicy", "aiki-redis") or {})["spec"]["ingress"]
    assert "newcomer-team" in json.dumps(rules)
    budget = await team.get("PodDisruptionBudget", f"{NAME}-pool") or {}
    assert budget["spec"]["maxUnavailable"] == "50%"

    async def two() -> bool:
        return await team.replicas(NAME) == 2

    await time_until("the hours' minimum is there", two, 30)
    (pod, *_) = await team.pods(f"aiki.dev/pool={NAME}")
    assert pod["metadata"]["annotations"]["example.com/team"] == "greeters"
    assert [one["topologyKey"] for one in pod["spec"]["topologySpreadConstraints"]] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]


async def _run(home: Kube) -> str:
    async with reach(home) as service:
        (run,) = await service.finished(await service.start("napping", [0.0], pool=NAME), 60)
    return str(run["id"])


async def _listings(home: Kube, team: Kube) -> None:
    """The columns; and a description that has its events in the order in which things happened."""

    async def listed() -> bool:
        return (await team.kubectl("get", "akp", NAME)).splitlines()[1].split()[1:5] == ["True", "Ready", "2/2", "0"]

    await time_until("the pool's columns are true", listed, 60, every=1)

    async def server_listed() -> bool:
        return (await home.kubectl("get", "aks", "aiki")).splitlines()[1].split()[1:5] == ["True", "Ready", "1/1", "0"]

    await time_until("the server's columns are true", server_listed, 60, every=1)
    told = (await team.kubectl("describe", "akp", NAME)).partition("Events:")[2]
    assert 0 < told.index("ScaledUp") < told.index("Promoted")
    messages = [one["message"] for one in (await team.get("AikiWorkerPool", NAME) or {})["status"]["conditions"]]
    assert all(message.endswith((".", "'", "`")) for message in messages), messages


# ---- what people break --------------------------------------------------------------------------------------------


async def _a_wrong_image(team: Kube) -> None:
    await _patch(team, f"akp/{NAME}", {"image": "example.com/nobody:9"})
    await _says(team, "RolloutComplete", "ImagePullFailed")
    assert "goes on serving" in (await team.condition("AikiWorkerPool", NAME, "RolloutComplete"))["message"]
    await _mended(team)


async def _a_wrong_field(team: Kube) -> None:
    await _patch(team, f"akp/{NAME}", {"template": {"spec": {"nodeSelectr": {"a": "b"}}}})
    await _says(team, "RolloutComplete", "ManifestRefused")
    assert "spec.template.spec.nodeSelectr" in (await team.condition("AikiWorkerPool", NAME, "RolloutComplete"))["message"]
    await _mended(team)


async def _a_small_quota(team: Kube) -> None:
    await team.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": {"pods": "2"}}})
    await _patch(team, f"akp/{NAME}", {"replicas": 3})
    await _says(team, "PodsReady", "PodsRefused")
    await team.kubectl("delete", "resourcequota", "small")
    await _mended(team)


async def _a_lost_secret(team: Kube) -> None:
    await team.kubectl("delete", "secret", f"{NAME}-pool")

    async def back() -> bool:
        return await team.get("Secret", f"{NAME}-pool") is not None

    await time_until("the pool's Secret is back", back, 90)
    await _mended(team)


async def _mended(team: Kube) -> None:
    await team.kubectl(
        "patch", f"akp/{NAME}", "--type=merge", "--patch", json.dumps({"spec": {"template": None, "replicas": None, **SPEC}})
    )
    await team.ready("AikiWorkerPool", NAME)


async def _says(team: Kube, condition: str, reason: str) -> None:
    async def said() -> bool:
        return (await team.condition("AikiWorkerPool", NAME, condition)).get("reason") == reason

    await time_until(f"{condition} says {reason}", said, 90)


async def _patch(kube: Kube, what: str, spec: dict[str, Any]) -> None:
    await kube.kubectl("patch", what, "--type=merge", "--patch", json.dumps({"spec": spec}))


# ---- another release ----------------------------------------------------------------------------------------------


async def _another_release(home: Kube, team: Kube, run: str, figure: Figure) -> None:
    """The first release goes, its server and data stay, and a release of another name takes them up."""
    await home.helm("uninstall", "first")
    said = await home.helm("install", "second", CHART, "--set", "operator.clusterWide=true", ok=False)
    assert "invalid ownership metadata" in said
    await home.helm("uninstall", "second", ok=False)
    await home.helm("install", "second", CHART, "--take-ownership", "--set", "operator.clusterWide=true")
    async with reach(home) as service:
        assert (await service.run(run))["status"] == "completed"
    await _run(home)
    await team.ready("AikiWorkerPool", NAME)
    figure("15 a new user's path: install, break four things, uninstall, another release", "every run ended, none was lost")

"""Who reaches what, on a cluster that enforces NetworkPolicies: each connection is opened from a pod, to a pod or a Service."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from e2e.conftest import ROOT, WALLED, Figure, cleared, pool
from e2e.images import WORKER
from e2e.kube import Json, Kube, is_ready, named, time_until
from e2e.service import reach

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOME, TEAM, STREET = WALLED
LABELLED = {"aiki.dev/server": "aiki", "aiki.dev/server-namespace": HOME, "app.kubernetes.io/component": "worker"}
"""What the pods of a worker in another namespace carry; anybody can write it on a pod of a namespace that is not admitted."""
PROMETHEUS = {"app.kubernetes.io/name": "prometheus"}
ASKED = """
import json, socket, sys
def state(target):
    host, port = target.rsplit(":", 1)
    try:
        address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][4]
    except OSError as error:
        return f"no address: {error}"
    try:
        socket.create_connection(address, timeout=3).close()
    except OSError:
        return "closed"
    return "open"
print(json.dumps({name: state(target) for name, target in json.loads(sys.argv[1]).items()}))
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def walled(cluster: Kube, images: None) -> AsyncIterator[Kube]:
    """An installation, a pool beside it, one in a namespace that is admitted, and strangers."""
    await cleared(cluster.inside("aiki"))
    home, team, street = (cluster.inside(name) for name in WALLED)
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    for name in WALLED:
        await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": label}})
    spec = {"allowedNamespaces": {"from": "Names", "names": [TEAM]}}
    await home.helm(
        "install",
        "aiki",
        str(ROOT / "charts" / "aiki"),
        "--set",
        "operator.clusterWide=true",
        "--set-json",
        f"server.spec={json.dumps(spec)}",
    )
    await home.apply(named("AikiWorkerPool", "here", pool(minReplicas=1)))
    await team.apply(named("AikiWorkerPool", "there", pool(serverRef={"name": "aiki", "namespace": HOME}, minReplicas=1)))
    await home.apply(_stranger("stranger", {}))
    await street.apply(_stranger("stranger", {}), _stranger("labelled", LABELLED), _stranger("prometheus", PROMETHEUS))
    await home.ready("AikiWorkerPool", "here")
    await team.ready("AikiWorkerPool", "there")
    for kube, names in ((home, ("stranger",)), (street, ("stranger", "labelled", "prometheus"))):
        await kube.kubectl("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=120s")
    await _enforced(street)
    yield home
    await home.helm("uninstall", "aiki", ok=False)
    await cleared(home)


async def test_strangers_reach_the_api_and_nothing_else(walled: Kube, figure: Figure) -> None:
    targets = await _targets(walled)
    expected = {name: "open" if name in ("api", "worker here", "worker there") else "closed" for name in targets}
    street = walled.inside(STREET)
    for kube, name in ((walled, "stranger"), (street, "stranger"), (street, "labelled")):
        assert await _asked(kube, name, targets) == expected, f"{name} of {kube.namespace}"
    assert await _asked(street, "prometheus", targets) == expected | {"operator": "open"}
    figure("18 ways from a stranger's pod", f"{sum(one == 'closed' for one in expected.values())} closed, {sorted(targets)} asked")


async def test_workers_reach_server_and_redis_and_not_postgres(walled: Kube) -> None:
    targets = await _targets(walled)
    expected = {"api": "open", "redis": "open", "redis pod": "open", "postgres": "closed", "postgres pod": "closed", "operator": "closed"}
    asked = {name: targets[name] for name in expected}
    for kube, name in ((walled, "here"), (walled.inside(TEAM), "there")):
        (worker,) = await kube.pods(f"aiki.dev/pool={name}")
        assert await _asked(kube, worker["metadata"]["name"], asked) == expected, name
    async with reach(walled) as service:
        for name in ("here", "there"):
            await service.finished(await service.start("napping", [0.0], pool=name), 60)


async def test_a_namespace_that_is_no_longer_admitted_is_closed_out(walled: Kube) -> None:
    team = walled.inside(TEAM)
    (worker,) = await team.pods("aiki.dev/pool=there")
    redis = {"redis": f"aiki-redis.{HOME}.svc:6379"}
    await _admits(walled, {"from": "Same"})

    async def closed() -> bool:
        return await _asked(team, worker["metadata"]["name"], redis) == {"redis": "closed"}

    async def emptied() -> bool:
        return not (await team.get("Secret", "there-pool") or {}).get("data")

    await time_until("Redis is closed to the namespace", closed, 30)
    await time_until("the pool's Secret holds no token", emptied, 30)
    await _admits(walled, {"from": "Names", "names": [TEAM]})
    await team.ready("AikiWorkerPool", "there")


async def test_probes_of_the_kubelet_are_let_through(walled: Kube) -> None:
    """Policies are there before the pods, so that a probe that they stop never makes a pod ready, or restarts it."""
    pods = [*await walled.pods("app.kubernetes.io/managed-by"), *await walled.inside(TEAM).pods("aiki.dev/pool=there")]
    policed = [pod for pod in pods if pod["status"]["phase"] != "Succeeded"]  # a Job's has done its work
    assert len(policed) >= 6
    assert [pod["metadata"]["name"] for pod in policed if not is_ready(pod)] == []
    assert [pod["metadata"]["name"] for pod in policed if any(one["restartCount"] for one in pod["status"]["containerStatuses"])] == []


async def _admits(home: Kube, whom: Json) -> None:
    body = json.dumps({"spec": {"allowedNamespaces": None}})
    await home.kubectl("patch", "aikiserver", "aiki", "--type=merge", "--patch", body)
    await home.kubectl("patch", "aikiserver", "aiki", "--type=merge", "--patch", json.dumps({"spec": {"allowedNamespaces": whom}}))


async def _targets(home: Kube) -> dict[str, str]:
    """Everything that listens: by Service, with its name from the DNS, and by the pod's address."""
    found = {
        "api": f"aiki.{HOME}.svc:8080",
        "postgres": f"aiki-postgres.{HOME}.svc:5432",
        "redis": f"aiki-redis.{HOME}.svc:6379",
        "operator": f"aiki-operator.{HOME}.svc:8081",
    }
    for name, namespace, selector, port in (
        ("postgres pod", HOME, "app.kubernetes.io/component=postgres", 5432),
        ("redis pod", HOME, "app.kubernetes.io/component=redis", 6379),
        ("worker here", HOME, "aiki.dev/pool=here", 8081),
        ("worker there", TEAM, "aiki.dev/pool=there", 8081),
    ):
        (pod,) = await home.inside(namespace).pods(selector)
        found[name] = f"{pod['status']['podIP']}:{port}"
    return found


async def _asked(kube: Kube, pod: str, targets: dict[str, str]) -> dict[str, str]:
    found: dict[str, str] = json.loads(await kube.kubectl("exec", pod, "--", "python", "-c", ASKED, json.dumps(targets)))
    return found


async def _enforced(street: Kube) -> None:
    """A policy that lets nobody in closes a port that was open, or this cluster enforces none."""
    listener = _stranger("listener", {"app": "listener"}, ["python", "-m", "http.server", "8000"])
    await street.apply(listener)
    await street.kubectl("wait", "--for=condition=Ready", "pod/listener", "--timeout=60s")
    address = (await street.get("Pod", "listener") or {})["status"]["podIP"]

    async def says(word: str) -> bool:
        return await _asked(street, "stranger", {"listener": f"{address}:8000"}) == {"listener": word}

    await time_until("the listener listens", lambda: says("open"), 30)
    spec = {"podSelector": {"matchLabels": {"app": "listener"}}, "policyTypes": ["Ingress"], "ingress": []}
    await street.apply({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "listener"}, "spec": spec})
    try:
        await time_until("the cluster enforces a policy", lambda: says("closed"), 20)
    except AssertionError:
        if street.site.name == "own":
            raise
        pytest.skip("this cluster's network plugin enforces no NetworkPolicies")


def _stranger(name: str, marks: dict[str, str], command: list[str] | None = None) -> Json:
    container: Json = {
        "name": "main",
        "image": WORKER,
        "command": command or ["python", "-c", "import signal; signal.sigwait([signal.SIGTERM])"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    security = {"runAsNonRoot": True, "runAsUser": 999, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"securityContext": security, "terminationGracePeriodSeconds": 1, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": marks}, "spec": spec}

"""An operator that serves one namespace has rights in that one only, and leaves the others alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from e2e.conftest import ROOT, Figure, cleared, pool
from e2e.kube import Kube, named
from e2e.service import reach

pytestmark = pytest.mark.asyncio(loop_scope="session")

OPERATOR = "system:serviceaccount:alone:aiki-operator"


async def test_an_operator_of_one_namespace(cluster: Kube, images: None, figure: Figure) -> None:
    await cleared(cluster.inside("aiki"))
    alone, other = cluster.inside("alone"), cluster.inside("external")
    for name in ("alone", "external"):
        await cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    elsewhere = ("--set", "operator.namespaces={external}")
    assert "would not serve" in await alone.helm("install", "aiki", str(ROOT / "charts" / "aiki"), *elsewhere, ok=False)
    await alone.helm("install", "aiki", str(ROOT / "charts" / "aiki"))
    await other.apply(named("AikiServer", "aiki", {}))
    await alone.apply(named("AikiWorkerPool", "here", pool()))
    await alone.ready("AikiWorkerPool", "here")
    async with reach(alone) as service:
        await service.finished(await service.start("napping", [0.0], pool="here"), 60)

    assert await cluster.run("kubectl", "get", "clusterroles", "-l", "app.kubernetes.io/instance=aiki", "-o", "name") == ""
    assert (await other.get("AikiServer", "aiki") or {})["status"] == {"observedGeneration": -1}, "nobody has looked at it"
    refused = _refused(alone)
    figure("14 one namespace: cluster roles; asked for and refused", f"none; {refused or 'none'} (must be none)")
    assert not refused
    await cleared(alone)


async def test_metrics_of_the_server_are_asked_for_beside_it(cluster: Kube) -> None:
    """A ServiceMonitor reads the credentials of its own namespace only."""
    chart = str(ROOT / "charts" / "aiki")
    values = ("--set", "serviceMonitor.enabled=true", "--set", "server.namespace=shop", "--show-only", "templates/monitoring.yaml")
    operators, servers = yaml.safe_load_all(await cluster.run("helm", "template", "aiki", chart, "--namespace", "aiki-system", *values))
    assert (operators["metadata"]["namespace"], servers["metadata"]["namespace"]) == ("aiki-system", "shop")
    assert servers["spec"]["endpoints"][0]["authorization"]["credentials"]["name"] == "aiki-client"
    assert servers["spec"]["selector"]["matchLabels"]["aiki.dev/server"] == "aiki"
    assert "namespaceSelector" not in servers["spec"]
    (only,) = yaml.safe_load_all(await cluster.run("helm", "template", "aiki", chart, "--set", "server.create=false", *values))
    assert only["metadata"]["name"] == "aiki-operator"
    more = ("--set-json", 'serviceMonitor.servers=[{"name":"orders","namespace":"team"},{"name":"aiki","namespace":"team"}]')
    _, _, *others = yaml.safe_load_all(await cluster.run("helm", "template", "aiki", chart, *more, *values))
    assert [
        (
            one["metadata"]["namespace"],
            one["metadata"]["name"],
            one["spec"]["selector"]["matchLabels"]["aiki.dev/server"],
            one["spec"]["endpoints"][0]["authorization"]["credentials"]["name"],
        )
        for one in others
    ] == [("team", "aiki-server-orders", "orders", "orders-client"), ("team", "aiki-server", "aiki", "aiki-client")]


def _refused(kube: Kube) -> list[str]:
    """What the operator asked for and had no right to, where the cluster keeps an audit log."""
    if kube.site.audit is None:
        return []
    entries = (json.loads(line) for line in kube.site.audit.read_text().splitlines() if OPERATOR in line)
    return [entry["requestURI"] for entry in entries if entry["annotations"].get("authorization.k8s.io/decision") == "forbid"]


async def test_figures_of_workers_are_asked_for_beside_the_secret_of_their_pool(cluster: Kube) -> None:
    chart = str(ROOT / "charts" / "aiki")
    values = ("--set", "podMonitor.enabled=true", "--set", "server.namespace=shop", "--show-only", "templates/podmonitor.yaml")

    async def monitors(*more: str) -> list[Any]:
        return list(yaml.safe_load_all(await cluster.run("helm", "template", "aiki", chart, *values, *more)))

    def said(one: Any) -> tuple[str, ...]:
        (endpoint,) = one["spec"]["podMetricsEndpoints"]
        credentials = endpoint["authorization"]["credentials"]
        return one["metadata"]["namespace"], one["metadata"]["name"], credentials["name"], credentials["key"]

    (own,) = await monitors()
    assert said(own) == ("shop", "aiki-workers", "aiki-worker", "AIKI_METRICS_TOKEN")
    assert own["spec"]["selector"]["matchLabels"]["aiki.dev/server"] == "aiki"
    assert own["spec"]["selector"]["matchExpressions"] == [{"key": "aiki.dev/server-namespace", "operator": "DoesNotExist"}]
    assert "namespaceSelector" not in own["spec"]
    servers = ("--set-json", 'podMonitor.servers=[{"name":"orders","namespace":"team"}]')
    pools = ("--set-json", 'podMonitor.pools=[{"name":"mail","namespace":"far"},{"name":"other","namespace":"shop"}]')
    here, there, *apart = await monitors(*servers, *pools)
    assert here["spec"]["selector"]["matchExpressions"][1] == {"key": "aiki.dev/pool", "operator": "NotIn", "values": ["other"]}
    assert said(there) == ("team", "aiki-workers-orders", "orders-worker", "AIKI_METRICS_TOKEN")
    assert list(map(said, apart)) == [
        ("far", "aiki-pool-mail", "mail-pool", "AIKI_METRICS_TOKEN"),
        ("shop", "aiki-pool-other", "other-pool", "AIKI_METRICS_TOKEN"),
    ]
    assert [one["spec"]["selector"]["matchLabels"]["aiki.dev/pool"] for one in apart] == ["mail", "other"]
    names = [(one["metadata"]["namespace"], one["metadata"]["name"]) for one in (here, there, *apart)]
    assert len(set(names)) == len(names)

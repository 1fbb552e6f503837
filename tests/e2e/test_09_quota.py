"""Scenario 9, beside: a namespace with a quota: what does not fit says so in Kubernetes' words, what fits gets ready with every default."""

from __future__ import annotations

import json

import pytest

from e2e.conftest import Figure, pool
from e2e.kube import Kube, named, time_until

pytestmark = pytest.mark.asyncio(loop_scope="session")


def quota(memory: str) -> dict[str, object]:
    hard = {"requests.cpu": "2", "requests.memory": "4Gi", "limits.memory": memory}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}


async def test_a_server_in_a_namespace_with_a_quota(aiki: Kube, figure: Figure) -> None:
    kube = aiki.inside("tight")
    await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tight"}})
    try:
        await kube.apply(quota("256Mi"))
        await kube.apply(named("AikiServer", "aiki", {}))

        async def refused() -> bool:
            return (await kube.condition("AikiServer", "aiki", "Stalled")).get("reason") == "PodsRefused"

        took = await time_until("the condition says that the quota refuses pods", refused, 30)
        assert "exceeded quota: small" in (await kube.condition("AikiServer", "aiki", "Ready"))["message"]
        assert [one["type"] for one in await kube.told("aiki", "PodsRefused")] == ["Warning"]
        await kube.apply(quota("8Gi"))
        ready = await kube.ready("AikiServer", "aiki", 180)
        await kube.apply(named("AikiWorkerPool", "tight", pool()))
        await kube.ready("AikiWorkerPool", "tight")
        figure("9 quota too small: said after; raised: server with every default ready after", f"{took:.1f} s; {ready:.1f} s")
        await _a_promoted_build_that_finds_no_room_says_so(kube)
    finally:
        await kube.run("kubectl", "delete", "namespace", "tight", "--wait=false", ok=False)


async def _a_promoted_build_that_finds_no_room_says_so(kube: Kube) -> None:
    """The build serves, and one more pod than the quota has room for is asked for."""
    await kube.apply(quota("3Gi"))
    await kube.kubectl("scale", "akp/tight", "--replicas=3")

    async def said() -> bool:
        return (await kube.condition("AikiWorkerPool", "tight", "PodsReady")).get("reason") == "PodsRefused"

    await time_until("the condition says that the pods are refused", said, 60)
    ready = await kube.condition("AikiWorkerPool", "tight", "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "PodsRefused"), json.dumps(ready)

"""Scenario 9, second half: `helm uninstall` takes the operator and leaves the users' data, and their work, as they are."""

from __future__ import annotations

import time

import pytest

from e2e.conftest import ROOT, Figure, pool
from e2e.kube import Kube, named, time_until
from e2e.service import reach

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_uninstall_leaves_data_and_work(aiki: Kube, figure: Figure) -> None:
    await aiki.apply(named("AikiWorkerPool", "stays", pool(minReplicas=1)))
    await aiki.ready("AikiWorkerPool", "stays")
    await aiki.helm("uninstall", "aiki")
    async with reach(aiki) as service:
        (run,) = await service.finished(await service.start("napping", [0.0], pool="stays"), 30)
    figure("9 after helm uninstall: a run without an operator", run["status"])

    await aiki.kubectl("delete", "aikiworkerpools", "--all")
    await aiki.kubectl("delete", "aikiserver", "aiki")

    async def gone() -> bool:
        return not await aiki.pods("aiki.dev/server=aiki")

    await time_until("all pods are gone, without an operator", gone, 120)
    assert await aiki.get("Secret", "aiki-postgres") is not None
    claims = (await aiki.kubectl("get", "persistentvolumeclaims", "--output=name")).split()
    assert "persistentvolumeclaim/data-aiki-postgres-0" in claims

    began = time.monotonic()
    await aiki.helm("install", "aiki", str(ROOT / "charts" / "aiki"))
    figure("9 installed again, on the data that was left", f"{time.monotonic() - began:.1f} s")
    async with reach(aiki) as service:
        assert (await service.run(run["id"]))["output"] == run["output"]


async def test_data_goes_with_the_server_where_that_was_asked_for(aiki: Kube) -> None:
    await aiki.apply(named("AikiServer", "fleeting", {"database": {"managed": {"deletionPolicy": "Delete"}}}))
    await aiki.ready("AikiServer", "fleeting")
    assert await _left(aiki)
    await aiki.kubectl("delete", "aikiserver", "fleeting")

    async def nothing_left() -> bool:
        return not await _left(aiki)

    await time_until("volumes and Secrets of the server are gone", nothing_left, 60)


async def _left(kube: Kube) -> list[str]:
    found = (await kube.kubectl("get", "persistentvolumeclaims,secrets", "--output=name")).split()
    return [name for name in found if "fleeting" in name]

"""Scenario 9, first half: `helm upgrade` with a changed CRD and a new server version under load, and back."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from e2e.conftest import ROOT, Figure, pool
from e2e.images import VERSION
from e2e.kube import Kube, named
from e2e.service import Service, steady

pytestmark = pytest.mark.asyncio(loop_scope="session")

NEXT = "0.1.1"


@pytest.fixture
def next_chart(aiki: Kube, tmp_path: Path) -> Path:
    """The chart of a next release: a field more in the pool's spec, and images with another tag."""
    for name, target in (("server", "server"), ("operator", "operator")):
        aiki.site.build(f"example.com/aiki-{name}:{NEXT}", file=ROOT / "Dockerfile.server", target=target)
    chart = tmp_path / "aiki"
    shutil.copytree(ROOT / "charts" / "aiki", chart)
    crd = chart / "files" / "crds" / "aikiworkerpools.yaml"
    field = "                motto: {description: A field that the next release has., type: string}\n"
    text = crd.read_text()
    marker = "                concurrency:\n"
    assert text.count(marker) == 1
    crd.write_text(text.replace(marker, field + marker))
    return chart


async def test_upgrade_and_rollback_under_load(aiki: Kube, service: Service, next_chart: Path, figure: Figure) -> None:
    await aiki.apply(named("AikiWorkerPool", "loaded", pool(concurrency=50, minReplicas=1, maxReplicas=1)))
    await aiki.ready("AikiWorkerPool", "loaded")
    before = {pod["metadata"]["name"] for pod in await aiki.pods("aiki.dev/pool=loaded")}
    async with steady(service, "napping", 0.1, per_second=10, pool="loaded") as load:
        took = await _timed(aiki.helm("upgrade", "aiki", str(next_chart), "--reset-then-reuse-values", "--set", f"images.tag={NEXT}"))
        assert await _image(aiki) == f"example.com/aiki-server:{NEXT}"
        assert "A field that the next release has" in await aiki.kubectl("explain", "aikiworkerpool.spec.motto")
        back = await _timed(aiki.helm("rollback", "aiki"))
        assert await _image(aiki) == f"example.com/aiki-server:{VERSION}"
    await service.finished(load.ids, 60)
    figure(
        "9 helm upgrade; helm rollback; starts meanwhile; failed; slowest",
        f"{took:.1f} s; {back:.1f} s; {len(load.ids)}; {len(load.failures)} (must be 0); {load.slowest:.2f} s",
    )
    assert not load.failures, load.failures[:3]
    assert before <= {pod["metadata"]["name"] for pod in await aiki.pods("aiki.dev/pool=loaded")}, (
        "workers were restarted by an upgrade that does not concern them"
    )
    await aiki.kubectl("delete", "aikiworkerpool", "loaded")


async def _timed(work: object) -> float:
    began = time.monotonic()
    await work  # type: ignore[misc]
    return time.monotonic() - began


async def _image(kube: Kube) -> str:
    await kube.ready("AikiServer", "aiki", 5)
    deployment = await kube.get("Deployment", "aiki") or {}
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["image"])

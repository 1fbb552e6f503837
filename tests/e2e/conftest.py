"""One cluster, one release of the chart for all tests; figures are printed and gathered at the end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from aiki_operator.kubernetes.connection import connect
from e2e import site
from e2e.external import STORE_IMAGE
from e2e.images import WORKER, build_all
from e2e.kube import Kube
from e2e.service import Service, reach

ROOT = site.ROOT
WORKLOAD, WORKLOAD_2 = "example.com/workload:1", "example.com/workload:2"
WALLED = ("walled", "walled-team", "walled-street")
REUSE = os.environ.get("AIKI_E2E_REUSE") == "1"
FIGURES: list[tuple[str, str]] = []

Figure = Callable[[str, str], None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the cluster, and takes its time."""
    for item in items:
        if Path(item.path).is_relative_to(site.HERE):
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(600))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures, once more, in one place."""
    if FIGURES:
        terminalreporter.section("figures")
        width = max(len(name) for name, _ in FIGURES)
        for name, value in FIGURES:
            terminalreporter.write_line(f"{name:{width}}  {value}")


@pytest.fixture(scope="session")
def figure() -> Figure:
    """Prints a figure, and keeps it for the end."""

    def say(name: str, value: str) -> None:
        FIGURES.append((name, value))
        print(f"\n  {name}: {value}", flush=True)

    return say


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[Kube]:
    """The cluster."""
    found = site.find()
    patch = pytest.MonkeyPatch()
    patch.setenv("KUBECONFIG", found.kubeconfig)
    async with connect() as connected:
        yield Kube(found, connected, "default")
    patch.undo()


@pytest.fixture(scope="session")
def images(cluster: Kube, figure: Figure) -> None:
    """All images, built and on the nodes. AIKI_E2E_REUSE=1 takes images and release as they are, for those who write tests."""
    if REUSE:
        return
    began = time.monotonic()
    build_all(cluster.site)
    for tag in (WORKLOAD, WORKLOAD_2):
        cluster.site.build(tag, file=site.HERE / "workload" / "Dockerfile", context=site.HERE / "workload", base=WORKER)
    cluster.site.build(STORE_IMAGE, file=site.HERE / "store" / "Dockerfile", context=site.HERE / "store")
    figure("0 images built and loaded", f"{time.monotonic() - began:.0f} s")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def aiki(cluster: Kube, images: None, figure: Figure) -> Kube:
    """The release `aiki` in a namespace that enforces the restricted standard: what `helm install` alone gives."""
    kube = cluster.inside("aiki")
    if REUSE and await kube.get("AikiServer", "aiki") is not None:
        return kube
    await cleared(kube)
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "aiki", "labels": label}})
    began = time.monotonic()
    await kube.helm("install", "aiki", str(ROOT / "charts" / "aiki"), "--set", "operator.clusterWide=true")
    figure("1 helm install to Ready, managed Postgres and Valkey", f"{time.monotonic() - began:.1f} s")
    return kube


async def cleared(kube: Kube) -> None:
    """Nothing of an earlier run is left: neither release nor namespaces nor CRDs."""
    await kube.helm("uninstall", "aiki", ok=False)
    namespaces = ("aiki", "external", "alone", "tight", "newcomer", "newcomer-team", *WALLED)
    await kube.run("kubectl", "delete", "namespace", *namespaces, "--ignore-not-found", "--timeout=400s")
    await kube.run("kubectl", "delete", "crd", "aikiservers.aiki.dev", "aikiworkerpools.aiki.dev", "--ignore-not-found")


@pytest_asyncio.fixture(loop_scope="session")
async def service(aiki: Kube) -> AsyncIterator[Service]:
    """The server's API."""
    async with reach(aiki) as found:
        yield found


def pool(image: str = WORKLOAD, **spec: object) -> dict[str, object]:
    """The spec of a pool."""
    return {"serverRef": {"name": "aiki"}, "image": image, **spec}


def pretty(value: object) -> str:
    """JSON for people."""
    return json.dumps(value, indent=1)

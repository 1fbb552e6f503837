"""Scenario 1: from nothing to a working server, on managed and on external databases."""

from __future__ import annotations

import time

import pytest

from e2e.conftest import Figure
from e2e.external import CLOUD_NATIVE, EXTERNAL, EXTERNAL_SERVER
from e2e.kube import Kube, time_until
from e2e.service import reach

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_helm_install_alone_ends_with_a_working_server(aiki: Kube) -> None:
    condition = await aiki.condition("AikiServer", "aiki", "Ready")
    assert condition["status"] == "True", condition
    await aiki.kubectl("get", "aikiservers")  # kubectl learns new kinds, and their category, from this
    listing = await aiki.kubectl("get", "aiki")
    assert "aikiserver.aiki.dev/aiki" in listing
    async with reach(aiki) as service:
        status, answer = await service.call("GET", "/runs")
    assert (status, sorted(answer)) == (200, ["next", "runs"])


async def test_helm_test_starts_a_run(aiki: Kube) -> None:
    said = await aiki.helm("test", "aiki", ok=False)
    assert "Phase:          Succeeded" in said
    assert "answered: hello, Helm" in said


async def test_a_server_on_external_databases_becomes_ready(aiki: Kube, figure: Figure) -> None:
    kube = aiki.inside("external")
    label = {"pod-security.kubernetes.io/enforce": "restricted"}
    await kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "external", "labels": label}})
    began = time.monotonic()
    await kube.apply(EXTERNAL_SERVER)

    async def says_what_is_missing() -> bool:
        return (await kube.condition("AikiServer", "aiki", "DatabaseReady")).get("reason") == "SecretNotFound"

    await time_until("the condition names the missing Secret", says_what_is_missing, 30)
    await kube.apply(*EXTERNAL)
    await kube.ready("AikiServer", "aiki", 180)
    figure("1 the same on external Postgres and Valkey, from their first pod", f"{time.monotonic() - began:.1f} s")
    began = time.monotonic()
    await kube.apply(*CLOUD_NATIVE)
    await kube.ready("AikiServer", "fleet", 60)
    figure("1 the same on the Secret of a CloudNativePG cluster", f"{time.monotonic() - began:.1f} s")
    assert not await kube.all("StatefulSet", "app.kubernetes.io/managed-by=aiki-operator")
    await kube.kubectl("delete", "namespace", "external", "--wait=false")

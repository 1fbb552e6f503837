"""Scenario 2: the manifest from the page that deploys to Kubernetes, the onboarding image, and runs over HTTP."""

from __future__ import annotations

import time

import pytest

from e2e.conftest import Figure
from e2e.kube import Kube, named
from e2e.service import Service

pytestmark = pytest.mark.asyncio(loop_scope="session")

ONBOARDING = named(
    "AikiWorkerPool",
    "onboarding",
    {"serverRef": {"name": "aiki"}, "image": "example.com/onboarding:1", "concurrency": 10, "minReplicas": 0, "maxReplicas": 20},
)


async def test_onboarding_runs_end_to_end(aiki: Kube, service: Service, figure: Figure) -> None:
    began = time.monotonic()
    await aiki.apply(ONBOARDING)
    await aiki.kubectl("wait", "--for=condition=Ready", "aikiworkerpool/onboarding", "--timeout=120s")
    figure("2 pool applied to Ready", f"{time.monotonic() - began:.1f} s")
    began = time.monotonic()
    people = [{"email": f"{name}@example.com", "name": name.title()} for name in ("ann", "bob")]
    ann, bob = await service.start("user-onboarding", people)
    status, _ = await service.call("POST", f"/runs/{ann}/events", {"name": "email_verified", "payload": {"by": "link"}})
    assert status == 201
    runs = await service.finished([ann, bob], 90)
    figure("2 onboarding, a day in 15 s, to both results", f"{time.monotonic() - began:.1f} s")
    assert runs[0]["output"]["success"] is True
    assert runs[0]["output"]["user_id"].startswith("user-")
    assert runs[1]["output"] == {"success": False}
    await aiki.kubectl("delete", "aikiworkerpool", "onboarding")

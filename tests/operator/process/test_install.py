"""`helm install` waits for the AikiServer, and stops waiting where waiting is pointless."""

from __future__ import annotations

from typing import Any

import pytest

from aiki_operator.kubernetes.client import Cluster
from aiki_operator.process import install
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import server_body

SERVER = ("AikiServer", "shop", "aiki")


def told(kubernetes: FakeKubernetes, *, generation: int = 1, **words: str) -> None:
    """What the operator says of the server; the reason of Ready, by type."""
    conditions = [
        {
            "type": name,
            "status": status,
            "reason": "SecretNotFound",
            "message": "Secret pg does not exist",
            "observedGeneration": generation,
        }
        for name, status in words.items()
    ]
    kubernetes.status(SERVER, conditions=conditions)


async def run(cluster: Cluster, **more: Any) -> str | None:
    return await install.install(cluster, server_body(), seconds=more.get("seconds", 20.0))


async def test_ready_server_ends_it(kubernetes: FakeKubernetes, cluster: Cluster) -> None:
    kubernetes.put(server_body())
    told(kubernetes, Ready="True", Stalled="False")
    assert await run(cluster) is None


async def test_stalled_server_ends_it_with_the_reason(
    kubernetes: FakeKubernetes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "STALLED_SECONDS", 0.5)
    kubernetes.put(server_body())
    told(kubernetes, Ready="False", Stalled="True")
    assert await run(cluster) == "this waits for a person. SecretNotFound: Secret pg does not exist"


async def test_what_is_said_of_an_older_spec_does_not_count(kubernetes: FakeKubernetes, cluster: Cluster) -> None:
    kubernetes.put(server_body())
    told(kubernetes, Ready="False", Stalled="True", generation=0)
    assert "the operator has not looked at it yet" in (await run(cluster, seconds=0.5) or "")

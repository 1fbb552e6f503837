"""`helm install` waits for the AikiServer, and stops waiting where waiting is pointless."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from aiki_operator.kubernetes.client import Cluster
from aiki_operator.process import install
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import server_body
from support.waiting import until

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


async def test_a_server_that_gets_ready_is_waited_for_and_each_reason_is_printed_once(
    kubernetes: FakeKubernetes, cluster: Cluster, capsys: pytest.CaptureFixture[str]
) -> None:
    kubernetes.put(server_body())
    told(kubernetes, Ready="False")
    installing = asyncio.ensure_future(run(cluster))
    printed = ""

    def says_why() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return "SecretNotFound: Secret pg does not exist" in printed

    await until(says_why)
    told(kubernetes, Ready="True")
    assert await installing is None
    assert (printed + capsys.readouterr().out).count("SecretNotFound") == 1


async def test_a_kind_that_is_not_served_yet_is_applied_once_it_is(kubernetes: FakeKubernetes, cluster: Cluster) -> None:
    kubernetes.refuse["AikiServer"] = (503, "the server is currently unable to handle the request")
    installing = asyncio.ensure_future(run(cluster, seconds=0.0))
    await until(lambda: kubernetes.asked)
    assert not installing.done()
    del kubernetes.refuse["AikiServer"]
    assert await installing is None
    assert SERVER in kubernetes.objects


@pytest.fixture
def here(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The manifest that the chart hands over, and the small API in place of the pod's."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[Cluster]:
        yield cluster

    body = server_body(env=[{"name": "PASSWORD", "value": "correct horse"}])
    monkeypatch.setattr(install, "connect", connect)
    monkeypatch.setenv("AIKI_SERVER_MANIFEST", json.dumps(body))
    return body


async def test_the_command_applies_what_the_chart_hands_over(kubernetes: FakeKubernetes, here: dict[str, Any]) -> None:
    assert await install.main(["--wait", "0"]) is None
    assert kubernetes.objects[SERVER]["spec"] == here["spec"]


@pytest.mark.usefixtures("here")
async def test_a_refusal_is_told_without_the_values_of_variables(kubernetes: FakeKubernetes) -> None:
    kubernetes.refuse["AikiServer"] = (422, 'spec.env[0]: Invalid value: "correct horse": no')
    said = await install.main(["--wait", "0"])
    assert said is not None
    assert said.startswith("the API server refuses the AikiServer: ")
    assert "correct horse" not in said

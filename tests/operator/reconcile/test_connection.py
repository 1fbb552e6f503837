"""The way to the Kubernetes API: who signs in how, and what becomes of answers that are no answers."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration
from kubernetes.aio.config import incluster_config

from aiki_operator.kubernetes.client import Cluster, ClusterError, ClusterRefused, WriteConflict
from aiki_operator.kubernetes.connection import NoConnection, configuration, connect, sign_in
from support.operator.fake_kubernetes import serve

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: "https://10.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: me, user: {token: t0ken}}]
"""
CERTIFICATE = "a certificate"


class Now:
    """The hour of the client that reads a service account's token."""

    at = dt.datetime(2026, 1, 1)  # noqa: DTZ001 - as the client has it

    @classmethod
    def now(cls) -> dt.datetime:
        return cls.at


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pod's service account: the file with its token."""
    found, certificate = tmp_path / "token", tmp_path / "ca.crt"
    found.write_text("first\n")
    certificate.write_text(CERTIFICATE)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(found))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(certificate))

    class Clock:
        datetime, timedelta = Now, dt.timedelta

    monkeypatch.setattr(incluster_config, "datetime", Clock)
    return found


async def test_in_a_pod_it_is_the_service_account_s(token: Path) -> None:
    found, kopf_s = await configuration(), await sign_in()
    assert (found.host, kopf_s.server) == ("https://[fd00::1]:443", "https://[fd00::1]:443")
    assert Path(str(kopf_s.ca_path)).read_text() == CERTIFICATE
    assert kopf_s.as_http_headers() == {"Authorization": "Bearer first"}


async def test_a_replaced_token_is_used_within_a_minute(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append(request.headers["Authorization"])
        return web.json_response({"metadata": {}})

    found = await configuration()
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    async with serve(app) as url:
        monkeypatch.setattr(incluster_config, "_join_host_port", lambda *_: "")
        incluster_loader = found.refresh_api_key_hook
        assert incluster_loader is not None
        found.ssl_ca_cert = None
        async with connect(found) as cluster:
            for _ in range(2):
                found.refresh_api_key_hook = _at(url, incluster_loader)
                await cluster.get("Pod", "shop", "p")
                token.write_text("second")
                monkeypatch.setattr(Now, "at", Now.at + dt.timedelta(seconds=61))
            token.write_text("")
            monkeypatch.setattr(Now, "at", Now.at + dt.timedelta(seconds=61))
            with pytest.raises(ClusterError, match="token cannot be read"):
                await cluster.get("Pod", "shop", "p")
    assert [one.split()[-1] for one in seen] == ["first", "second"]


def _at(url: str, refresh: Any) -> Any:
    """The service account's token, for a server that is not where the pod's environment says."""

    def refreshed(found: Configuration) -> None:
        refresh(found)
        found.host = url

    return refreshed


async def test_elsewhere_it_is_that_of_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    (tmp_path / "config").write_text(KUBECONFIG)
    found = await sign_in()
    assert (found.server, found.insecure, found.as_http_headers()) == ("https://10.0.0.1:6443", True, {"Authorization": "Bearer t0ken"})


async def test_without_either_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(NoConnection, match="set KUBECONFIG"):
        await configuration()


async def test_api_server_that_does_not_answer_is_an_error_worth_another_try() -> None:
    async with connect(Configuration(host="http://127.0.0.1:1")) as cluster:
        with pytest.raises(ClusterError, match="nothing listens at") as caught:
            await cluster.get("Pod", "shop", "p")
    assert caught.value.status == 0


@pytest.fixture
async def answers() -> AsyncIterator[tuple[list[web.Response], Cluster]]:
    """An API server that answers what the test lays before it."""
    laid: list[web.Response] = []

    async def answer(_: web.Request) -> web.Response:
        return laid.pop()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with serve(app) as url, connect(Configuration(host=url)) as cluster:
        yield laid, cluster


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "no", ClusterRefused),
        (403, "no", ClusterRefused),
        (422, "no", ClusterRefused),
        (409, "no", WriteConflict),
        (429, "no", ClusterError),
        (503, "no", ClusterError),
        (500, "failed to create typed patch object", ClusterRefused),
        (500, "etcd", ClusterError),
    ],
)
async def test_what_the_api_server_says_is_told(
    answers: tuple[list[web.Response], Cluster], status: int, message: str, kind: type[ClusterError]
) -> None:
    answers[0].append(web.json_response({"kind": "Status", "message": message}, status=status))
    with pytest.raises(ClusterError) as caught:
        await answers[1].merge("Pod", "shop", "p", {})
    assert (type(caught.value), caught.value.status, caught.value.message) == (kind, status, message)


@pytest.mark.parametrize(
    ("response", "status", "words"),
    [
        (lambda: web.Response(text="<h1>sign in</h1>", content_type="text/html"), 0, "not JSON"),
        (lambda: web.Response(text="{", content_type="application/json"), 0, "not JSON"),
        (lambda: web.Response(text="[]", content_type="application/json"), 0, "not JSON"),
        (lambda: web.Response(body=b"\xff", content_type="application/json"), 0, "not JSON"),
        (lambda: web.Response(body=b"\x00", content_type="application/octet-stream"), 0, "not JSON"),
        (lambda: web.Response(text="<h1>bad gateway</h1>", status=502, content_type="text/html"), 502, "bad gateway"),
        (lambda: web.Response(status=502), 502, "Bad Gateway"),
        (lambda: web.json_response([], status=503), 503, "[]"),
    ],
)
async def test_what_stands_before_the_api_server_may_answer_anything(
    answers: tuple[list[web.Response], Cluster], response: Any, status: int, words: str
) -> None:
    answers[0].append(response())
    with pytest.raises(ClusterError) as caught:
        await answers[1].get("Pod", "shop", "p")
    assert caught.value.status == status
    assert words in caught.value.message


def test_the_official_client_is_imported_where_it_is_used() -> None:
    """Plans, manifests and the list of kinds are read by tools that speak to no cluster: they do not pay 20 MiB for it."""
    code = "import sys, aiki_operator.kubernetes.client, aiki_operator.plan.pool.plan, aiki_operator.scaling.simulate; assert 'kubernetes' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""The operator's client of the Aiki server, against a small real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aiki_operator import server_api as controlling
from aiki_operator.scaling.load import RolloutTrial
from aiki_operator.server_api import ServerApi, ServerApiError
from aiki_operator.spec.pool import Versioning
from support.operator.fake_kubernetes import serve

SERVER_NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def after(seconds: float) -> str:
    return (SERVER_NOW + timedelta(seconds=seconds)).isoformat()


def pool_load(**more: Any) -> dict[str, Any]:
    return {
        "pool": "onboarding",
        "versioning": "ByVersion",
        "now": after(0),
        "queued": 3,
        "running": 2,
        "due_soon": [after(30), after(10)],
        "stream_lag": 4,
        "arrivals_per_second": 0.5,
        "service_seconds": 2.0,
        "builds": [
            {
                "name": "b1", "promoted": True, "registered_at": after(-60), "carries": [], "serves": [], "queued": 3, "running": 2,
                "open_runs": 7, "next_due_at": after(20), "busy_workers": 1, "workers": 1,
            }
        ],
        "workers": [
            {
                "id": "w1", "pool": "onboarding", "build": "b1", "pod": "p1", "concurrency": 10, "active": 2, "draining": False,
                "registered_at": after(-60), "heartbeat_at": after(-1),
            }
        ],
        **more,
    }  # fmt: skip


class Server:
    """Answers what the test wants and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.tokens: set[str | None] = set()
        self.status = 200
        self.body: Any = {}
        self.hang = False

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.raw_path, await request.json() if request.can_read_body else None))
        self.tokens.add(request.headers.get("Authorization"))
        if self.hang:
            await asyncio.Event().wait()
        return web.json_response(self.body, status=self.status)


@pytest.fixture
def fake_server() -> Server:
    return Server()


@pytest.fixture
async def control(fake_server: Server) -> AsyncIterator[ServerApi]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake_server.answer)
    async with serve(app) as url, aiohttp.ClientSession() as session:
        yield ServerApi(session, url, "t0ken")


async def test_loads_are_read_onto_the_callers_clock(fake_server: Server, control: ServerApi) -> None:
    fake_server.body = {"pools": [pool_load()]}
    load = (await control.loads(500.0))["onboarding"]
    assert load.due == (510.0, 530.0)
    assert (load.queued, load.running, load.lag, load.complete, load.versioning) == (3, 2, 4, True, Versioning.BY_VERSION)
    assert (load.rates.arrivals_per_second, load.rates.service_seconds) == (0.5, 2.0)
    build, worker = load.builds[0], load.workers[0]
    assert (build.name, build.promoted, build.needed, build.demand.due, build.demand.busy_workers) == ("b1", True, 7, (520.0,), 1)
    assert (worker.id, worker.pod, worker.build, worker.active, worker.draining, worker.age) == ("w1", "p1", "b1", 2, False, 60.0)
    assert (fake_server.asked, fake_server.tokens) == ([("GET", "/api/v1/pools/load", None)], {"Bearer t0ken"})


async def test_how_runs_fare_that_were_drawn_is_read(fake_server: Server, control: ServerApi) -> None:
    fake_server.body = {"pools": [pool_load(trial={"build": "b2", "percent": 10, "runs": 9, "completed": 5, "failing": 3})]}
    trial = (await control.loads(0.0))["onboarding"].trial
    assert trial == RolloutTrial("b2", 10, 9, 5, 3)
    assert trial.judged == 8


async def test_load_without_redis_is_not_complete(fake_server: Server, control: ServerApi) -> None:
    fake_server.body = {"pools": [pool_load(stream_lag=None, service_seconds=None, versioning="Pinned")]}
    load = (await control.loads(0.0))["onboarding"]
    assert (load.complete, load.lag, load.rates.service_seconds, load.versioning) == (False, None, None, Versioning.PINNED)


async def test_members_of_a_newer_server_are_ignored(fake_server: Server, control: ServerApi) -> None:
    fake_server.body = {"pools": [pool_load(weather="fine")], "more": 1}
    assert set(await control.loads(0.0)) == {"onboarding"}


@pytest.mark.parametrize("body", [{}, {"pools": [{"pool": "x"}]}, {"pools": [pool_load(queued="many")]}, "text", None])
async def test_answer_that_cannot_be_read_is_incompatible(fake_server: Server, control: ServerApi, body: Any) -> None:
    fake_server.body = body
    with pytest.raises(ServerApiError) as caught:
        await control.loads(0.0)
    assert caught.value.reason == "ServerIncompatible"


async def test_orders_are_sent_to_their_place_with_names_quoted(fake_server: Server, control: ServerApi) -> None:
    await control.set_versioning("a/b", "Pinned")
    await control.promote("p", "b1")
    await control.share("p", "b1", 10)
    await control.unshare("p", "b1")
    await control.drain("w 1", drain=True)
    await control.worker_lost("w1")
    await control.pod_lost("p1")
    assert fake_server.asked == [
        ("PUT", "/api/v1/pools/a%2Fb", {"versioning": "Pinned"}),
        ("POST", "/api/v1/pools/p/builds/b1/promote", None),
        ("PUT", "/api/v1/pools/p/builds/b1/share", {"percent": 10}),
        ("DELETE", "/api/v1/pools/p/builds/b1/share", None),
        ("POST", "/api/v1/workers/w%201/drain", {"drain": True}),
        ("POST", "/api/v1/workers/w1/lost", None),
        ("POST", "/api/v1/pods/p1/lost", None),
    ]


@pytest.mark.parametrize(("status", "gone"), [(200, True), (204, True), (404, True), (409, False)])
async def test_build_is_forgotten_unless_runs_need_it(fake_server: Server, control: ServerApi, status: int, gone: bool) -> None:
    fake_server.status, fake_server.body = status, None
    assert await control.forget("p", "b1") is gone


async def test_worker_that_is_unknown_is_as_good_as_told(fake_server: Server, control: ServerApi) -> None:
    fake_server.status = 404
    await control.drain("w1", drain=False)
    await control.worker_lost("w1")
    await control.pod_lost("p1")
    with pytest.raises(ServerApiError):
        await control.promote("p", "b1")


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "TokenRefused"), (403, "TokenRefused"), (500, "ServerError"), (503, "ServerError"), (400, "ServerError")]
)
async def test_refusal_says_what_and_why(fake_server: Server, control: ServerApi, status: int, reason: str) -> None:
    fake_server.status, fake_server.body = status, {"detail": "the reason " + "x" * 999}
    with pytest.raises(ServerApiError) as caught:
        await control.loads(0.0)
    assert caught.value.reason == reason
    assert f"GET /pools/load: the server answers {status}" in str(caught.value)
    assert "the reason" in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "t0ken" not in str(caught.value)


async def test_server_that_does_not_answer_is_unreachable(fake_server: Server, control: ServerApi, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_server.hang = True
    monkeypatch.setattr(controlling, "TIMEOUT", aiohttp.ClientTimeout(total=0.05))
    with pytest.raises(ServerApiError) as caught:
        await control.promote("p", "b1")
    assert caught.value.reason == "ServerUnreachable"
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ServerApiError) as refused:
            await ServerApi(session, "http://127.0.0.1:1", "t").loads(0.0)
    assert refused.value.reason == "ServerUnreachable"


async def test_wake_names_the_pools_that_have_work(fake_server: Server, control: ServerApi) -> None:
    fake_server.body = {"pools": ["onboarding"]}
    assert await control.wait_for_work(30) == ["onboarding"]
    assert fake_server.asked == [("GET", "/api/v1/pools/wake?timeout=30", None)]

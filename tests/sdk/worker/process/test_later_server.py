"""A server of a later release: in every answer it says more than this release knows, and the worker goes on without it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from aiki import Client, Event, Retry, Run, task, workflow
from support.ports import free_port
from support.server import ServerProcess
from support.workers import SECONDS, StartWorker

SENT_TOO = ({"type", "message"}, {"workflow", "version"})
"""Members by which models are known that are sent as well, and so have no others (decision 27)."""
go = Event("go", int)


def later(answer: Any) -> Any:
    """With members that nobody knows, at every depth."""
    if isinstance(answer, list):
        return [later(item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    grown = {name: later(value) for name, value in answer.items()}
    fixed = any(known <= set(answer) <= known | {"stack", "retryable"} for known in SENT_TOO)
    return grown if fixed else grown | {"later_text": "x", "later_object": {"a": [1, None]}}


@asynccontextmanager
async def later_server(server: ServerProcess) -> AsyncIterator[tuple[str, set[str]]]:
    """Where it answers, and of which paths it has said more so far."""
    grew: set[str] = set()

    async def pass_on(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name in {"Content-Type", "Authorization"}}
        async with session.request(request.method, server.url + request.path_qs, data=await request.read(), headers=headers) as answer:
            body = await answer.read()
            if body and answer.content_type == "application/json" and answer.status < 300:
                body = json.dumps(later(json.loads(body))).encode()
                grew.add(request.path)
            return web.Response(status=answer.status, body=body, content_type=answer.content_type)

    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", pass_on)
    runner, port = web.AppRunner(app), free_port()
    async with aiohttp.ClientSession() as session:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}", grew
        finally:
            await runner.cleanup()


@pytest.mark.timeout(90)
async def test_a_worker_leaves_aside_what_a_later_server_says(server: ServerProcess, start_worker: StartWorker, unique: str) -> None:
    flow, child = workflow(unique), workflow(f"{unique}-child")
    failed = asyncio.Event()

    @task(retry=Retry.fixed(max_attempts=2, delay=0.01))
    async def flaky(number: int) -> int:
        if not failed.is_set():
            failed.set()
            raise ConnectionError
        return number

    @child.v("1")
    async def child_v1(run: Run, number: int) -> int:
        return await flaky.start(run, number)

    @flow.v("1")
    async def version(run: Run) -> list[int]:
        waiting = run.wait(go)
        found = await child_v1.start(run, 1)
        await run.sleep(0.2)
        return [found, await waiting]

    async with later_server(server) as (url, grew), Client(url) as client:
        worker = await start_worker(flow, child, client=client)
        run = await version.start(client)
        heartbeat = worker._session._heartbeat  # type: ignore[union-attr]  # it has started
        assert await asyncio.to_thread(heartbeat._beat)
        await run.send(go, 2)
        assert await run.result(SECONDS) == [1, 2]
        assert (await run.refresh()).status == "completed"
        assert (await run.history()).entries
        await worker.stop(grace_seconds=1)
        ways = {path.removeprefix("/api/v1/worker/") for path in grew if path.startswith("/api/v1/worker/")}
        assert {"register", "claim", "commit", "heartbeat"} <= ways

"""A server that asks to be left alone for a while is, and is asked again then."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from aiki.client.transport import Transport
from aiki.errors import TooManyRequests

PROBLEM = {"type": "urn:aiki:too-many-requests", "title": "t", "status": 429, "detail": "d"}


@pytest.fixture
async def asked() -> AsyncIterator[tuple[str, list[int]]]:
    """A server that refuses once, and how it has answered."""
    answered: list[int] = []

    async def answer(_: web.Request) -> web.Response:
        answered.append(429 if not answered else 200)
        return web.json_response(PROBLEM, status=answered[-1], headers={"Retry-After": "1"})

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", answered
    await runner.cleanup()


async def test_a_refused_request_is_sent_again_when_the_server_says(asked: tuple[str, list[int]]) -> None:
    url, answered = asked
    transport = Transport(url)
    with pytest.raises(TooManyRequests) as refusal:
        await transport.send("GET", "/", patience_seconds=0)
    assert refusal.value.seconds == 1.0
    answered.clear()
    assert (await transport.send("GET", "/")).status == 200
    assert answered == [429, 200]
    await transport.close()

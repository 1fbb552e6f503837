"""The line between a worker and the server: a test sees what goes over it, and holds back or loses what it wants.

It takes the place of the client's transport, so that neither the worker nor its parts know of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

import pytest

from aiki.client import Client
from aiki.client.transport import Reply, Transport

Ask = Callable[[], Awaitable[Reply]]
Act = Callable[[bytes, Ask], Awaitable[Reply]]
"""What a test does with a request, given its body and what sends it: send it, once, twice or never, and give the answer, or raise."""


class Exchange(NamedTuple):
    """A request that was answered: the last word of its path, its body, and the answer's."""

    what: str
    asked: bytes
    answered: bytes


class Link(Transport):
    """The real transport, with what a test does in between. Lives as long as the client whose transport it is."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.exchanges: list[Exchange] = []
        self._acts: dict[str, Act] = {}

    def on(self, what: str, act: Act) -> None:
        """From now on, `act` has every request whose path ends in this word: claim, commit, inbox, register."""
        self._acts[what] = act

    def silence(self, what: str) -> None:
        """Such requests are never sent, and never answered."""

        async def nothing(_: bytes, __: Ask) -> Reply:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

        self.on(what, nothing)

    def heard(self, what: str, *words: str) -> bool:
        """Whether such a request was answered with all of these words in one answer."""
        return any(one.what == what and all(word.encode() in one.answered for word in words) for one in self.exchanges)

    async def send(self, method: str, path: str, *, body: bytes | None = None, **options: Any) -> Reply:
        """As the transport does, by way of what the test wants."""
        what, asked = path.rpartition("/")[2], body or b""

        async def ask() -> Reply:
            return await super(Link, self).send(method, path, body=body, **options)

        act = self._acts.get(what)
        reply = await (ask() if act is None else act(asked, ask))
        self.exchanges.append(Exchange(what, asked, reply.body))
        return reply


@pytest.fixture
async def link(client: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Link]:
    """The line of `client`, and of the workers that are started with it."""
    made = Link(client.transport.url)
    monkeypatch.setattr(client, "transport", made)
    yield made
    await made.close()

"""Bytes to the server and back over HTTP: keep-alive, token, retries, problem documents.

Whatever is sent here may be sent again: starts carry a `ref`, events an `id`, commits a number, and the rest changes nothing
when repeated. So one rule covers all: no answer, or one that says "not now", is tried again until the caller's patience ends.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import responses
from io import BytesIO
from typing import Final

import aiohttp
from pydantic import ValidationError

from aiki.client.credentials import Credentials
from aiki.errors import ApiError, ServerUnreachable, TooManyRequests
from aiki.protocol import Problem
from aiki.shared.backoff import backoff_seconds
from aiki.shared.redaction import without_users

NOT_NOW: Final = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
TIMEOUT_SECONDS: Final = 30.0
PATIENCE_SECONDS: Final = 20.0
MAX_CONNECTIONS: Final = 100
PIECE_BYTES: Final = 1 << 19
MAX_POLLS: Final = 1_000
"""Long polls have connections of their own: a thousand people who wait must not keep one from being answered."""


Params = Mapping[str, str] | Sequence[tuple[str, str]]
TOO_MANY: Final = "urn:aiki:too-many-requests"
"""Of a problem: the namespace asks for more than its share. Nothing was done, and later it will be."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a 2xx status."""

    status: int
    body: bytes


class Transport:
    """Connections to one server. Made anywhere; they open at first use, in the event loop that uses them, until `close`."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.credentials = Credentials(self.url, token)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        params: Params | None = None,
        wait_seconds: float = 0.0,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> Reply:
        """The answer, tried again for `patience_seconds`; `wait_seconds` is how long the server may hold a long poll.

        Raises ApiError for a refusal, ServerUnreachable where nobody answered.
        """
        deadline = time.monotonic() + patience_seconds
        failures = 0
        while True:
            try:
                return await self._send_once(method, path, body=body, params=params, wait_seconds=wait_seconds)
            except ServerUnreachable as error:
                failures += 1
                delay = backoff_seconds(failures, random.random())  # noqa: S311  jitter, not a secret
                if isinstance(error, TooManyRequests):
                    delay += error.seconds
                if time.monotonic() + delay > deadline:
                    raise
            except ApiError as error:
                if error.status != HTTPStatus.UNAUTHORIZED or not self.credentials.refused():
                    raise
                delay = 0.0
                for session in self._sessions.values():
                    session.headers.update(self._authorization())
            await asyncio.sleep(delay)

    async def close(self) -> None:
        """Close every connection. Using the transport afterwards opens new ones."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    async def _send_once(self, method: str, path: str, *, body: bytes | None, params: Params | None, wait_seconds: float) -> Reply:
        session = self._session(polls=wait_seconds > 0)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS + wait_seconds)
        try:
            async with session.request(method, self.url + path, data=_sendable(body), params=params, timeout=timeout) as answer:
                data = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise ServerUnreachable(without_users(f"{self.url}: {str(error) or type(error).__name__}")) from error
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return Reply(answer.status, data)
        problem = _problem(answer.status, data)
        if problem.type == TOO_MANY:
            raise TooManyRequests(
                f"{without_users(self.url)}: {problem.title}: {problem.detail}", _seconds(answer.headers.get("Retry-After"))
            )
        if answer.status in NOT_NOW:
            raise ServerUnreachable(f"{without_users(self.url)}: {problem.status} {problem.title}: {problem.detail}")
        raise ApiError(problem)

    def _session(self, *, polls: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(polls)
        if session is None:
            headers = {"Content-Type": "application/json", "Accept": "application/json", **self._authorization()}
            connector = aiohttp.TCPConnector(limit=MAX_POLLS if polls else MAX_CONNECTIONS)
            session = aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar())
            self._sessions[polls] = session
        return session

    def _authorization(self) -> dict[str, str]:
        token = self.credentials.token
        return {"Authorization": f"Bearer {token}"} if token else {}


def _seconds(text: str | None) -> float:
    return min(float(text), 60.0) if text is not None and text.isdigit() else 1.0


def _sendable(body: bytes | None) -> bytes | BytesIO | None:
    """A large body is written in pieces, so that it does not hold up the loop."""
    return body if body is None or len(body) <= PIECE_BYTES else BytesIO(body)


def _problem(status: int, data: bytes) -> Problem:
    """The problem document of an answer, or one made of whatever a proxy in between has sent instead."""
    try:
        return Problem.model_validate_json(data)
    except ValidationError:
        return Problem(
            type="about:blank", title=responses.get(status, "Unknown"), status=status, detail=data[:500].decode("utf-8", "replace")
        )

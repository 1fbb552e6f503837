"""Talks to an ASGI application without a socket: starts and stops it by the lifespan protocol, and sends requests.

Small on purpose: it can send what a proper HTTP client refuses to (odd headers, bodies in pieces).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class AsgiClient:
    """An application that runs for as long as the block lasts."""

    def __init__(self, app: Any, *, token: str | None = None) -> None:
        self.app = app
        self.token = token
        self._received: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._lifespan: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._lifespan = asyncio.create_task(
            self.app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, self._received.get, self._sent.put)
        )
        await self._phase("startup")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._phase("shutdown")
        assert self._lifespan is not None
        await self._lifespan

    async def _phase(self, name: str) -> None:
        await self._received.put({"type": f"lifespan.{name}"})
        answered = asyncio.create_task(self._sent.get())
        assert self._lifespan is not None
        await asyncio.wait([answered, self._lifespan], return_when=asyncio.FIRST_COMPLETED, timeout=30)
        if not answered.done():
            answered.cancel()
            await self._lifespan
        message = answered.result()
        if message["type"] != f"lifespan.{name}.complete":
            await self._lifespan  # it says why
            raise AssertionError(message)

    def as_(self, token: str | None) -> AsgiClient:
        """The same application, with another token."""
        return AsgiClient(self.app, token=token)

    async def get(self, path: str, **query: Any) -> Reply:
        return await self.request("GET", path, query=query)

    async def post(self, path: str, value: Any = None) -> Reply:
        """`value` as JSON; bytes as they are; None sends no body."""
        return await self.request("POST", path, value=value)

    async def request(
        self,
        method: str,
        path: str,
        *,
        value: Any = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | None] | None = None,
        pieces: Sequence[bytes] | None = None,
    ) -> Reply:
        """Any request. `pieces` is a body without a Content-Length."""
        body = b"" if value is None else value if isinstance(value, bytes) else json.dumps(value).encode()
        sent: dict[str, str | None] = {} if value is None and pieces is None else {"content-type": "application/json"}
        if pieces is None and value is not None:
            sent["content-length"] = str(len(body))
        if self.token is not None:
            sent["authorization"] = f"Bearer {self.token}"
        sent |= headers or {}
        texts = [
            f"{name}={quote(str(one))}" for name, many in (query or {}).items() for one in (many if isinstance(many, list) else [many])
        ]
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode(), "root_path": "",
            "scheme": "http", "query_string": "&".join(texts).encode(), "headers": [(name.encode(), text.encode("latin-1")) for name, text in sent.items() if text is not None],
            "client": ("127.0.0.1", 1), "server": ("test", 80), "state": {},
        }  # fmt: skip
        return await _exchange(self.app, scope, [body] if pieces is None else pieces)


async def _exchange(app: Any, scope: dict[str, Any], pieces: Sequence[bytes]) -> Reply:
    left = list(pieces)
    status, headers, parts = 0, {}, []

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()  # nobody hangs up
        piece = left.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            headers.update({name.decode(): text.decode("latin-1") for name, text in message["headers"]})
        else:
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return Reply(status, headers, b"".join(parts))

"""The outermost layer: who asks, the shortest way to the hot routes, and errors as problem documents.

Pure ASGI. The routes that every run takes are found by one dictionary look-up and read their request themselves; all others go on
to FastAPI, where the same handlers are registered too, for the document and for requests of unusual form.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aiki.protocol import MAX_COMMIT_BYTES
from aiki_server.api.context import NAMESPACE
from aiki_server.api.edge.auth import Tokens
from aiki_server.api.edge.origin import Origins
from aiki_server.api.fairness.quotas import Quotas
from aiki_server.api.http.connection import CONNECTION, Doors
from aiki_server.api.http.errors import ApiError, no_token, problem
from aiki_server.api.http.traffic import ROUTE, Traffic
from aiki_server.engine.runtime.batcher import OverloadedError
from aiki_server.engine.runtime.retry import DatabaseAwayError
from aiki_server.engine.start.starts import LostStartError
from aiki_server.model.failures import COLLIDED, LOST
from aiki_server.settings import Limits

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 10_000
Handler = Callable[[Request], Awaitable[Response]]
Answering = Callable[[str, Scope, Receive, Send], Awaitable[None]]
RunHandler = Callable[[Request, str], Awaitable[Response | None]]
"""Is told which run; None where the request is of a form that FastAPI is better at."""
RUNS = "/api/v1/runs/"
METRICS = "/metrics"
HEARTBEAT = "/api/v1/worker/heartbeat"
SMALL_BYTES = 64 * 1024
"""What is not counted among the bytes under way."""
ID_LENGTH = 32
MOST_PARTS = 10
WORDS = frozenset(
    [
        "api",
        "v1",
        "runs",
        "runs:batch",
        "by-ref",
        "result",
        "history",
        "events",
        "cancel",
        "pause",
        "resume",
        "retry",
        "worker",
        "register",
        "heartbeat",
        "claim",
        "replay",
        "commit",
        "inbox",
        "deregister",
        "line",
        "workflows",
        "workers",
        "pools",
        "load",
        "wake",
        "builds",
        "promote",
        "share",
        "drain",
        "lost",
        "pods",
        "livez",
        "readyz",
        "metrics",
        "openapi.json",
    ]
) | {""}
FAILED = ApiError(500, "The server failed to answer this; its log says why.")
ENDING = ApiError(503, "The server is about to end. Try again.", headers={"Retry-After": "1"})
AWAY = (DatabaseAwayError, OverloadedError, LostStartError, *LOST, *COLLIDED)


@dataclass(frozen=True, slots=True)
class Hot:
    """Handlers by method and path; those of one run by method and what follows its id."""

    plain: Mapping[tuple[str, str], Handler]
    of_run: Mapping[tuple[str, str], RunHandler]

    async def answer(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer, where a handler has one."""
        method, path = scope["method"], scope["path"]
        if (handler := self.plain.get((method, path))) is not None:
            scope[ROUTE] = path
            return await handler(Request(scope, receive))
        if path.startswith(RUNS) and (of_run := self.of_run.get((method, path[len(RUNS) + ID_LENGTH :]))) is not None:
            scope[ROUTE] = f"{RUNS}{{run}}{path[len(RUNS) + ID_LENGTH :]}"
            return await of_run(Request(scope, receive), path[len(RUNS) : len(RUNS) + ID_LENGTH])
        return None


class Edge:
    """Wraps the app."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Tokens,
        origins: Origins,
        hot: Hot,
        drain: Callable[[], None],
        doors: Doors | None = None,
        quotas: Quotas | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        self.doors = doors or Doors(MOST_CONNECTIONS)
        self._quotas = quotas or Quotas(Limits())
        self._traffic = traffic or Traffic()
        self._app = app
        self._tokens = tokens
        self._origins = origins
        self._hot = hot
        self._drain = drain
        self._leaving = False
        self._shares = self._quotas.shares

    def drain(self) -> None:
        """The process was asked to end: whoever is answered from now on should connect anew, to another one."""
        self._leaving = True
        self._drain()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket" and self._origins.refusal(scope) is not None:
            await send({"type": "websocket.close", "code": 1008})  # before it was accepted: answered with 403
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        status, began = 0, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._leaving:
                    message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        try:
            await self._answer(scope, receive, sending)
        except ClientDisconnect:
            return
        except asyncio.CancelledError:
            # The process ends and can wait no longer. Without an answer of ours uvicorn says 500, which nobody tries again.
            if not status:
                await problem(ENDING)(scope, receive, sending)
            raise
        except Exception as error:  # noqa: BLE001  the boundary of a request
            reply = problem(translated(error, scope["path"]))
            if not status:
                await reply(scope, receive, sending)
        finally:
            self._traffic.note(scope, status, time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (strange := self._origins.refusal(scope)) is not None:
            raise ApiError(403, strange)
        path: str = scope["path"]
        if path == METRICS:
            scope[NAMESPACE] = self._tokens.whose_metrics(_authorization(scope))
        elif path.startswith("/api/"):
            authorization = _authorization(scope)
            namespace = self._tokens.namespace(authorization)
            if namespace is None:
                raise no_token()
            if not self._tokens.permits(authorization, scope["method"], path):
                raise ApiError(403, "This is a token for clients: it can neither be a worker nor change pools. Use one of AIKI_TOKENS.")
            scope[NAMESPACE] = namespace
            if (connection := scope.get(CONNECTION)) is not None:
                connection.proven()
            if path == HEARTBEAT:
                await self._admitted(namespace, scope, receive, send)
                return
            self._quotas.admit(namespace)
            await self._in_turn(namespace, self._admitted, scope, receive, send)
            return
        if scope.get(NAMESPACE) is not None:
            await self._in_turn(scope[NAMESPACE], self._rendered, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _in_turn(self, namespace: str, answer: Answering, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request when it is the turn of its namespace: nothing but its head was read before, and no body that came later is looked at."""
        if not self._shares.contended(namespace):
            await answer(namespace, scope, receive, send)
            return
        await self._wait(namespace)

        async def receiving() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                await self._wait(namespace)
            return message

        await self._shares.counted(namespace, answer(namespace, scope, receiving, send))

    async def _wait(self, namespace: str) -> None:
        if self._shares.must_wait(namespace):
            self._quotas.room_to_wait(self._shares.waiting(namespace))
            await self._shares.turn(namespace)

    async def _rendered(self, _: str, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _admitted(self, namespace: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of a namespace; what it takes in memory counts until the peer has taken the answer in."""
        announced = _announced(scope)
        if announced <= SMALL_BYTES:
            await self._handled(namespace, scope, receive, send)
            return
        self._quotas.hold(namespace, announced)
        try:
            await self._handled(namespace, scope, receive, send)
        finally:
            self._quotas.drop(namespace, announced)

    async def _handled(self, namespace: str, scope: Scope, receive: Receive, send: Send) -> None:
        if (response := await self._hot.answer(scope, receive)) is None:
            await self._app(scope, receive, self._counted(namespace, scope, send))
        elif len(response.body) <= SMALL_BYTES:
            await response(scope, receive, send)
        else:
            await response(scope, receive, self._counted(namespace, scope, send))

    def _counted(self, namespace: str, scope: Scope, send: Send) -> Send:
        """Sends a large body when there is room for it, and waits until the peer has taken it in."""
        started: list[Message] = []

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                started.append(message)  # with the body: for that there may be no room
                return
            size = len(message.get("body", b""))
            counted = size > SMALL_BYTES
            if counted:
                self._quotas.hold(namespace, size)
            try:
                while started:
                    await send(started.pop())
                await send(message)
                if counted and (connection := scope.get(CONNECTION)) is not None:
                    await connection.flow.drain()
            finally:
                if counted:
                    self._quotas.drop(namespace, size)

        return sending


def translated(error: Exception, path: str) -> ApiError:
    """What an exception means to the caller. What is our own fault is logged, here and once."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, AWAY):
        log.warning("request refused", extra={"path": shape(path), "error": error})
        return ApiError(503, "The database is away, or the server has too much to do. Try again.", headers={"Retry-After": "1"})
    log.error("request failed", exc_info=error, extra={"path": shape(path)})
    return FAILED


def shape(path: str) -> str:
    """A path without what a caller wrote into it."""
    return "/".join(part if part in WORDS else "…" for part in path.split("/")[:MOST_PARTS])


def _announced(scope: Scope) -> int:
    """How many bytes a request will bring; as many as any may, where it does not say."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return min(int(value), MAX_COMMIT_BYTES) if value.isdigit() and len(value) < 20 else MAX_COMMIT_BYTES
        if name == b"transfer-encoding":
            return MAX_COMMIT_BYTES
    return 0


def _authorization(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"authorization":
            token: bytes = value
            return token
    return None

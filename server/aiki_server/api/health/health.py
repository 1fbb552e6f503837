"""Whether the process lives, whether it can do its work, and figures about it."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from aiki_server.api.context import NAMESPACE, Context
from aiki_server.api.health.metrics import Figures
from aiki_server.api.http.errors import ApiError, problem
from aiki_server.model.failures import LOST

PATIENCE = 3.0
COUNTED_SECONDS = 5.0
"""For so long the numbers of open runs are told again."""
FAILED_SECONDS = 1.0
"""For so long nobody tries to count again after that has failed."""


class Health:
    """/livez, /readyz and /metrics."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._counting = asyncio.Lock()
        self._counts: list[tuple[str, str, int]] | None = None
        self._counted_until = 0.0
        self._shown: dict[str | None, bytes] = {}
        """What was told last, by namespace: for those who asked before it was put together."""

    async def livez(self, _: Request) -> Response:
        """The event loop turns, or this would not be answered."""
        return Response(b"ok", media_type="text/plain")

    async def readyz(self, _: Request) -> Response:
        """The database answers and is migrated, and the background loops turn. Redis is not needed; what it fails at is said."""
        if not self._context.started:
            return problem(ApiError(503, "The server is starting or stopping."))
        engine = self._context.engine
        if engine.draining:
            return problem(ApiError(503, "The server is about to end."))
        if late := [loop.name for loop in engine.loops if not loop.healthy]:
            return problem(ApiError(503, f"Loops that do not turn: {', '.join(late)}."))
        try:
            async with asyncio.timeout(PATIENCE):
                migrated = await engine.migrated()
        except LOST:
            return problem(ApiError(503, "The database does not answer."))
        if not migrated:
            return problem(ApiError(503, "The database lacks migrations."))
        return Response("\n".join(["ok", *engine.complaints()]).encode(), media_type="text/plain")

    async def metrics(self, request: Request) -> Response:
        """Figures in the format of Prometheus: of one namespace and of the process, or of all namespaces for the token of the metrics."""
        namespace: str | None = request.scope[NAMESPACE]
        before = self._shown.get(namespace)
        await asyncio.sleep(0)  # whoever asks in the same turn of the loop
        counts = await self._open_runs()
        if (shown := self._shown.get(namespace)) is before or shown is None:
            registry = CollectorRegistry()
            registry.register(Figures(self._context, counts, namespace=namespace))
            ProcessCollector(registry=registry)
            shown = self._shown[namespace] = generate_latest(registry)
        return Response(shown, headers={"content-type": CONTENT_TYPE_LATEST})

    async def _open_runs(self) -> list[tuple[str, str, int]] | None:
        """Counted once in a while, whoever asks how often: it takes a connection, and looks at every open run."""
        async with self._counting:
            now = asyncio.get_running_loop().time()
            if now >= self._counted_until:
                self._counts = await self._counted()
                # From its end: who waited for a count that took long, or failed, does not wait for another one.
                self._counted_until = asyncio.get_running_loop().time() + (COUNTED_SECONDS if self._counts is not None else FAILED_SECONDS)
            return self._counts

    async def _counted(self) -> list[tuple[str, str, int]] | None:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._context.engine.looks.counts()
        except LOST:
            return None

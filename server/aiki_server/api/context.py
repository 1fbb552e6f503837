"""What handlers share: the engine once it runs, and who asks."""

from __future__ import annotations

from uuid import UUID

from starlette.requests import Request

from aiki_server.api.fairness.heavy import Heavy
from aiki_server.api.fairness.quotas import Quotas
from aiki_server.api.fairness.turns import Turns
from aiki_server.api.http.connection import Doors
from aiki_server.api.http.errors import ApiError, not_found
from aiki_server.api.http.traffic import Traffic
from aiki_server.engine.service import Engine
from aiki_server.model.run_ids import run_id_of

NAMESPACE = "aiki.namespace"
"""Where the edge leaves the namespace of the token in the ASGI scope."""


class Context:
    """One per app. The engine comes and goes with the app's lifespan."""

    def __init__(self, doors: Doors, quotas: Quotas, traffic: Traffic) -> None:
        self.doors = doors
        self.quotas = quotas
        self.traffic = traffic
        self._engine: Engine | None = None
        self.heavy = Heavy()
        self.writing = Turns()
        """At writing what is large."""

    @property
    def engine(self) -> Engine:
        """The running engine."""
        if self._engine is None:
            raise ApiError(503, "The server is starting or stopping.")
        return self._engine

    @property
    def started(self) -> bool:
        """Whether there is an engine."""
        return self._engine is not None

    def start(self, engine: Engine) -> None:
        """Requests can be answered from now on."""
        self._engine = engine

    def drain(self) -> None:
        """The process was asked to end."""
        if self._engine is not None:
            self._engine.drain()

    async def stop(self) -> None:
        """And from now on no more."""
        self._engine = None
        await self.heavy.close()


def namespace_of(request: Request) -> str:
    """The namespace of the token that the request came with."""
    namespace: str = request.scope[NAMESPACE]
    return namespace


def run_id(text: str) -> UUID:
    """The id in a path; what is none names nothing."""
    if len(text) != 32 or not all(character in "0123456789abcdef" for character in text):
        raise not_found("run")
    return run_id_of(text)

"""The composition root: settings in, an ASGI application out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from aiki_server.api.context import Context
from aiki_server.api.edge.auth import Tokens
from aiki_server.api.edge.gateway import AWAY, FAILED, RUNS, Edge, translated
from aiki_server.api.edge.origin import Origins
from aiki_server.api.edge.routes import add_routes
from aiki_server.api.fairness.quotas import Quotas
from aiki_server.api.http.connection import Doors
from aiki_server.api.http.errors import ApiError, not_found, problem
from aiki_server.api.http.traffic import Traffic
from aiki_server.engine.service import running
from aiki_server.settings import Settings


def create_app(settings: Settings) -> Edge:
    """The whole server. Its lifespan opens and closes everything."""
    doors = Doors(settings.most_connections)
    quotas = Quotas(settings.limits)
    traffic = Traffic()
    context = Context(doors, quotas, traffic)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with running(settings) as engine:
            context.start(engine)
            try:
                yield
            finally:
                await context.stop()

    app = FastAPI(
        title="Aiki",
        version="1",
        description="Durable execution: start runs, send them events, read how they do.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # one path, one resource: what has a slash more is not found
    )
    hot = add_routes(app, context)
    for expected in (ApiError, *AWAY):
        app.add_exception_handler(expected, _expected)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unexpected)
    app.add_exception_handler(RequestValidationError, _invalid_parameters)
    tokens = Tokens(settings.tokens, clients=settings.client_tokens, metrics=settings.metrics_token)
    return Edge(
        app,
        tokens=tokens,
        origins=Origins(settings.hosts),
        hot=hot,
        drain=context.drain,
        doors=doors,
        quotas=quotas,
        traffic=traffic,
    )


def _expected(request: Request, error: Exception) -> Response:
    return problem(translated(error, request.url.path))


def _unexpected(_: Request, __: Exception) -> Response:
    return problem(FAILED)  # raised again behind this, and logged by the edge


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        return problem(ApiError(405, "This path does not take this method.", headers={"Allow": _methods(request)}))
    details = {404: "There is nothing at this path."}
    return problem(ApiError(error.status_code, details.get(error.status_code, str(error.detail)), headers=dict(error.headers or {})))


def _methods(request: Request) -> str:
    """All methods of a path; Starlette names those of its first route only."""
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    path = next(route.path for route in routes if route.matches(request.scope)[0] != Match.NONE)
    return ", ".join(sorted({method for route in routes if route.path == path for method in route.methods or ()}))


def _invalid_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    details = error.errors()
    if any(detail["loc"][0] == "path" for detail in details):
        return problem(not_found("run" if request.url.path.startswith(RUNS) else "thing"))
    errors = [{"loc": list(detail["loc"]), "msg": detail["msg"], "type": detail["type"]} for detail in details]
    return problem(ApiError(422, "A parameter of the path or query is not valid.", errors))

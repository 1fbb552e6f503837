"""Every route: where, which handler, what goes in and comes out. The hot ones are given back, for the edge to find first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from aiki import protocol as wire
from aiki_server.api.context import Context
from aiki_server.api.edge.gateway import Handler, Hot, RunHandler
from aiki_server.api.edge.openapi import body_of, describe, problems
from aiki_server.api.health.health import Health
from aiki_server.api.operator.pools import Pools
from aiki_server.api.public.control import Control
from aiki_server.api.public.reading import Reading
from aiki_server.api.public.starting import Starting
from aiki_server.api.worker.http import Worker

BASE = "/api/v1"
Answers = Mapping[int, type[BaseModel] | None]


class _Routes:
    """Registers routes with their documentation; remembers the hot ones and the bodies."""

    def __init__(self, app: FastAPI) -> None:
        self._plain: dict[tuple[str, str], Handler] = {}
        self._of_run: dict[tuple[str, str], RunHandler] = {}
        self.bodies: list[type[BaseModel]] = []
        self._app = app

    @property
    def hot(self) -> Hot:
        """The routes that do without FastAPI."""
        return Hot(self._plain, self._of_run)

    def heat(self, method: str, rest: str, handler: RunHandler) -> None:
        """A route below a run's id, registered already, that runs take often."""
        self._of_run[method, rest] = handler

    def post(self, path: str, handler: Any, body: type[BaseModel] | None, answers: Answers, *errors: int, optional: bool = False) -> None:
        """A route that may take a body, which its handler reads itself."""
        if body is not None:
            self.bodies.append(body)
        extra = body_of(body, required=not optional) if body is not None else None
        self._add("POST", path, handler, answers, errors=problems(*errors, reads=body is None), extra=extra)

    def hot_post(self, path: str, handler: Handler, body: type[BaseModel], answers: Answers, *errors: int) -> None:
        """A route that every run takes several times."""
        self.post(path, handler, body, answers, *errors)
        self._plain["POST", BASE + path] = handler

    def put(self, path: str, handler: Any, body: type[BaseModel], answers: Answers, *errors: int) -> None:
        """A route that sets something."""
        self.bodies.append(body)
        self._add("PUT", path, handler, answers, errors=problems(*errors), extra=body_of(body))

    def delete(self, path: str, handler: Any, answers: Answers, *errors: int) -> None:
        """A route that forgets something."""
        self._add("DELETE", path, handler, answers, errors=problems(*errors, reads=True), extra=None)

    def get(self, path: str, handler: Any, answers: Answers, *errors: int) -> None:
        """A route that only reads."""
        self._add("GET", path, handler, answers, errors=problems(*errors, reads=True), extra=None)

    def _add(
        self,
        method: str,
        path: str,
        handler: Any,
        answers: Answers,
        *,
        errors: dict[int | str, dict[str, Any]],
        extra: dict[str, Any] | None,
    ) -> None:
        first, *others = answers.items()
        responses = errors | {status: {"model": model} for status, model in others}
        self._app.add_api_route(
            BASE + path,
            handler,
            methods=[method],
            status_code=first[0],
            responses={**responses, first[0]: {"model": first[1]}} if first[1] is not None else responses,
            response_model=None,
            openapi_extra=extra,
            operation_id=handler.__name__,
        )


def add_routes(app: FastAPI, context: Context) -> Hot:
    """Register everything; the hot routes are given back."""
    routes = _Routes(app)
    _public(routes, context)
    _worker(routes, context)
    _operator(routes, context)
    _health(app, context)
    describe(app, routes.bodies)
    return routes.hot


def _public(routes: _Routes, context: Context) -> None:
    starting, reading, control = Starting(context), Reading(context), Control(context)
    routes.hot_post("/runs", starting.start_run, wire.StartRequest, {201: wire.StartedRun, 200: wire.StartedRun}, 409)
    routes.hot_post("/runs:batch", starting.start_runs, wire.StartBatchRequest, {201: wire.StartedBatch}, 409)
    routes.get("/runs", reading.list_runs, {200: wire.RunList})
    routes.get("/runs/by-ref/{ref}", reading.get_run_by_ref, {200: wire.RunInfo})
    routes.get("/runs/{run}", reading.get_run, {200: wire.RunInfo})
    routes.get("/runs/{run}/result", reading.get_result, {200: wire.RunResult, 202: wire.RunResult})
    routes.get("/runs/{run}/history", reading.get_history, {200: wire.History})
    routes.post(
        "/runs/{run}/events", control.send_event, wire.EventRequest, {201: wire.EventAccepted, 200: wire.EventAccepted}, 404, 409, 429
    )
    routes.heat("POST", "/events", control.send_event)
    routes.heat("GET", "/result", reading.get_result_of_usual_form)
    routes.post("/runs/{run}/cancel", control.cancel_run, wire.CancelRequest, {200: wire.RunSummary}, 404, 409, optional=True)
    for verb, handler in (("pause", control.pause_run), ("resume", control.resume_run), ("retry", control.retry_run)):
        routes.post(f"/runs/{{run}}/{verb}", handler, wire.OrderRequest, {200: wire.RunSummary}, 404, 409, optional=True)


def _worker(routes: _Routes, context: Context) -> None:
    worker = Worker(context)
    routes.post("/worker/register", worker.register, wire.RegisterRequest, {200: wire.Registered})
    routes.hot_post("/worker/heartbeat", worker.heartbeat, wire.HeartbeatRequest, {200: wire.Heartbeat})
    routes.hot_post("/worker/claim", worker.claim, wire.ClaimRequest, {200: wire.Claimed}, 409)
    routes.post("/worker/replay", worker.replay, wire.ReplayRequest, {200: wire.ReplayPage})
    routes.hot_post("/worker/commit", worker.commit, wire.CommitRequest, {200: wire.Committed})
    routes.hot_post("/worker/inbox", worker.inbox, wire.InboxRequest, {200: wire.InboxUpdates})
    routes.post("/worker/deregister", worker.deregister, wire.DeregisterRequest, {204: None})


def _operator(routes: _Routes, context: Context) -> None:
    pools = Pools(context)
    routes.get("/workflows", pools.list_workflows, {200: wire.WorkflowList})
    routes.get("/workers", pools.list_workers, {200: wire.WorkerList})
    routes.get("/pools/load", pools.get_pool_loads, {200: wire.PoolLoads})
    routes.get("/pools/wake", pools.wait_for_wakes, {200: wire.Wakes})
    routes.get("/pools/{pool}/load", pools.get_pool_load, {200: wire.PoolLoad})
    routes.put("/pools/{pool}", pools.configure_pool, wire.PoolSettings, {200: wire.PoolSettings}, 404)
    routes.post("/pools/{pool}/builds/{build}/promote", pools.promote_build, None, {204: None}, 404)
    routes.put("/pools/{pool}/builds/{build}/share", pools.share_with_build, wire.BuildShare, {204: None}, 404, 409)
    routes.delete("/pools/{pool}/builds/{build}/share", pools.unshare_with_build, {204: None}, 404)
    routes.delete("/pools/{pool}/builds/{build}", pools.delete_build, {204: None}, 404, 409)
    routes.post("/workers/{worker}/drain", pools.drain_worker, wire.Drain, {204: None}, 404)
    routes.post("/workers/{worker}/lost", pools.lose_worker, None, {200: wire.Moved}, 404)
    routes.post("/pods/{pod}/lost", pools.lose_pod, None, {200: wire.Moved}, 404)


def _health(app: FastAPI, context: Context) -> None:
    health = Health(context)
    for name, handler in (("livez", health.livez), ("readyz", health.readyz), ("metrics", health.metrics)):
        app.add_api_route(f"/{name}", handler, methods=["GET"], response_model=None, include_in_schema=False)

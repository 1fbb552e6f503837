"""A Kubernetes API server as far as the operator calls one: objects in memory, over real HTTP, and a record of what was asked for.

It checks resource versions, merges server-side applies, keeps status apart from spec, and owns nothing else of Kubernetes: tests make
pods and statuses themselves. `asked` has one (verb, group, resource) for each request, in the words of RBAC.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import kopf
from aiohttp import web

from aiki_operator.cluster import RESOURCES, Cluster

Json = dict[str, Any]
Where = tuple[str, str, str]
"""Kind, namespace and name."""

KINDS = {resource.plural: kind for kind, resource in RESOURCES.items()}


class FakeKubernetes:
    """The objects, and what was asked for."""

    def __init__(self) -> None:
        self.objects: dict[Where, Json] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.refuse: dict[str, tuple[int, str]] = {}
        """Answers with an error instead: by kind, for everything but reading."""
        self.hang: set[str] = set()
        """Kinds for which no answer comes."""
        self.dies_after: int | None = None
        """Writes nothing more after so many writes, as if the operator had been killed there."""
        self.watcher: Callable[[Json], object] = lambda _: None
        """Is told of every change, as a watch would tell it."""
        self._version = 100

    @property
    def writes(self) -> list[tuple[str, str]]:
        """Verb and resource of what was asked for that is not reading."""
        return [(verb, resource) for verb, _, resource in self.asked if verb not in ("get", "list")]

    def put(self, body: Mapping[str, Any]) -> Json:
        """Stores an object as it is, with a new resource version."""
        self._version += 1
        meta = {
            "uid": f"uid-{self._version}",
            "generation": 1,
            "creationTimestamp": f"2026-01-01T00:00:{self._version % 60:02}Z",
            **body["metadata"],
            "resourceVersion": str(self._version),
        }
        found = {**body, "metadata": meta}
        self.objects[body["kind"], meta.get("namespace", ""), meta["name"]] = found
        self.watcher(found)
        return found

    def status(self, where: Where, **status: Any) -> None:
        """What a controller or a kubelet would write."""
        self.put({**self.objects[where], "status": {**self.objects[where].get("status", {}), **status}})

    def of(self, kind: str) -> list[Json]:
        """All objects of a kind."""
        return [body for where, body in self.objects.items() if where[0] == kind]

    # ---- HTTP -----------------------------------------------------------------------------------------------------

    async def answer(self, request: web.Request) -> web.Response:
        """One request."""
        group, kind, namespace, name, subresource = _parse(request.path)
        verb = _verb(request.method, name=name)
        resource = "/".join(part for part in (RESOURCES[kind].plural, subresource) if part)
        self.asked.append((verb, group, resource))
        if kind in self.hang:
            await asyncio.Event().wait()
        if kind in self.refuse and verb not in ("get", "list"):
            status, message = self.refuse[kind]
            return web.json_response({"message": message}, status=status)
        if self.dies_after is not None and len(self.writes) > self.dies_after and verb not in ("get", "list"):
            return web.json_response({"message": "dead"}, status=503)
        body = await request.json() if request.can_read_body else {}
        if verb == "list":
            return self._list(kind, namespace, request.query.get("labelSelector", ""))
        if verb == "create":
            return self._create(body)
        return self._one(verb, (kind, namespace, name), body, applied="apply-patch" in request.content_type, subresource=subresource)

    def _list(self, kind: str, namespace: str, selector: str) -> web.Response:
        label, _, value = selector.partition("=")
        items = [
            {name: part for name, part in body.items() if name not in ("apiVersion", "kind")}
            for (one, place, _), body in self.objects.items()
            if one == kind and namespace in ("", place) and (not label or body["metadata"].get("labels", {}).get(label) == value)
        ]
        return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})

    def _create(self, body: Json) -> web.Response:
        where = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        if where in self.objects:
            return web.json_response({"message": "already exists"}, status=409)
        return web.json_response(self.put(body), status=201)

    def _one(self, verb: str, where: Where, body: Json, *, applied: bool, subresource: str) -> web.Response:
        live = self.objects.get(where)
        if verb == "patch" and applied:
            if live is None:
                self.asked.append(("create", self.asked[-1][1], self.asked[-1][2]))
            return web.json_response(self._apply(live, body, subresource=subresource))
        if live is None:
            return web.json_response({"message": "not found"}, status=404)
        if verb == "delete":
            del self.objects[where]
            return web.json_response({"status": "Success"})
        if verb == "update" and body["metadata"].get("resourceVersion", "") != live["metadata"]["resourceVersion"]:
            return web.json_response({"message": "the object has been modified"}, status=409)
        if verb in ("update", "patch"):
            return web.json_response(self.put(_merged(live, body) if verb == "patch" else body))
        return web.json_response(live)

    def _apply(self, live: Json | None, body: Json, *, subresource: str) -> Json:
        ours = {"status": body["status"]} if subresource == "status" else {name: part for name, part in body.items() if name != "status"}
        wanted = _merged(live or {}, ours)
        if live is not None and wanted == live:
            return live
        if live is not None and wanted.get("spec") != live.get("spec"):
            wanted["metadata"]["generation"] = live["metadata"]["generation"] + 1
        return self.put(wanted)


def _merged(live: Any, body: Any) -> Any:
    if not isinstance(live, dict) or not isinstance(body, dict):
        return body
    return {**live, **{name: _merged(live.get(name), value) for name, value in body.items()}}


def _verb(method: str, *, name: str) -> str:
    if method == "GET":
        return "get" if name else "list"
    return {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[method]


def _parse(path: str) -> tuple[str, str, str, str, str]:
    """Group, kind, namespace, name and subresource of a request's path."""
    parts = path.strip("/").split("/")
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = ""
    if rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    plural, name, subresource = (*rest, "", "")[:3]
    return group, KINDS[plural], namespace, name, subresource


@asynccontextmanager
async def serve(app: web.Application) -> AsyncIterator[str]:
    """The application on a free port; its URL."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def serve_kubernetes(fake: FakeKubernetes) -> AsyncIterator[Cluster]:
    """The operator's own client of the fake."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.answer)
    async with serve(app) as url, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield Cluster(session, kopf.ConnectionInfo(server=url))

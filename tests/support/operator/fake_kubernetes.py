"""A Kubernetes API server as far as the operator calls one: objects in memory, over real HTTP, and a record of what was asked for.

It checks resource versions, merges server-side applies, keeps status apart from spec, refuses what a real one cannot read with its
status and its words, lets webhooks change what is written, and owns nothing else of Kubernetes: tests make pods and statuses themselves. `asked` has one (verb, group, resource) for each request, in the words of RBAC.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from kubernetes.aio.client import Configuration

from aiki_operator.kubernetes.client import RESOURCES, Cluster
from aiki_operator.kubernetes.connection import connect

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
        self.admit: list[Callable[[Json], Json]] = []
        """Webhooks: each makes another object of what is to be stored."""
        self.pruned: set[str] = set()
        """Members of a status that an older CRD does not know."""
        self.absent: set[str] = set()
        """Kinds that the cluster does not have."""
        self.hang: set[str] = set()
        """Kinds for which no answer comes."""
        self.dies_after: int | None = None
        """Writes nothing more after so many writes, as if the operator had been killed there."""
        self.watcher: Callable[[Json], object] = lambda _: None
        """Is told of every change, as a watch would tell it."""
        self._version = 100
        self._applied: dict[Where, set[str]] = {}
        """Which members of an object's data were applied, and so are the operator's."""

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
        if kind in self.absent:
            return web.Response(text="404 page not found\n", status=404)
        if kind in self.hang:
            await asyncio.Event().wait()
        if kind in self.refuse and verb not in ("get", "list"):
            status, message = self.refuse[kind]
            return web.json_response({"message": message}, status=status)
        if self.dies_after is not None and len(self.writes) > self.dies_after and verb not in ("get", "list"):
            return web.json_response({"message": "dead"}, status=503)
        body = await request.json() if request.can_read_body else {}
        if verb == "list":
            return self._list(kind, namespace, request.query.get("labelSelector", ""), request.query.get("fieldSelector", ""))
        if verb == "create":
            return self._create(body)
        return self._one(verb, (kind, namespace, name), body, applied="apply-patch" in request.content_type, subresource=subresource)

    def _list(self, kind: str, namespace: str, selector: str, fields: str) -> web.Response:
        wanted = [part.split("=") for part in fields.split(",") if part]
        label, _, value = selector.partition("=")
        items = [
            {name: part for name, part in body.items() if name not in ("apiVersion", "kind")}
            for (one, place, _), body in self.objects.items()
            if all(_member(body, path) == value for path, value in wanted)
            and one == kind
            and namespace in ("", place)
            and (not label or body["metadata"].get("labels", {}).get(label) == value)
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
            if (words := unreadable(body)) is not None:
                return web.json_response({"message": words, "code": 500}, status=500)
            return web.json_response(self._apply(live, body, subresource=subresource))
        if live is None:
            return web.json_response({"message": "not found"}, status=404)
        if verb == "delete":
            if body.get("preconditions", {}).get("resourceVersion") not in (None, live["metadata"]["resourceVersion"]):
                return web.json_response({"message": "the ResourceVersion in the precondition does not match"}, status=409)
            del self.objects[where]
            return web.json_response({"status": "Success"})
        if verb == "update" and body["metadata"].get("resourceVersion", "") != live["metadata"]["resourceVersion"]:
            return web.json_response({"message": "the object has been modified"}, status=409)
        if verb in ("update", "patch"):
            return web.json_response(self.put(self._admitted(_merged(live, body) if verb == "patch" else body)))
        return web.json_response(live)

    def _admitted(self, body: Json) -> Json:
        for webhook in self.admit:
            body = webhook(body)
        return body

    def _apply(self, live: Json | None, body: Json, *, subresource: str) -> Json:
        kept = {name: value for name, value in body.get("status", {}).items() if name not in self.pruned}
        ours = {"status": kept} if subresource == "status" else {name: part for name, part in body.items() if name != "status"}
        before = live or {}
        if subresource == "status" and "status" in before:  # of one owner: what it leaves out is gone
            before = {**before, "status": {name: part for name, part in before["status"].items() if name in kept}}
        where = (body["kind"], body["metadata"]["namespace"], body["metadata"]["name"])
        if "data" in before and subresource != "status":  # what was applied before and is left out now is gone, the rest is others'
            given_up = self._applied.get(where, set()) - set(body.get("data") or {})
            before = {**before, "data": {name: value for name, value in before["data"].items() if name not in given_up}}
            ours = {**ours, "data": ours.get("data") or {}}
        if subresource != "status":
            self._applied[where] = set(body.get("data") or {})
        wanted = self._admitted(_merged(before, ours))
        if live is not None and wanted == live:
            return live
        if live is not None and wanted.get("spec") != live.get("spec"):
            wanted["metadata"]["generation"] = live["metadata"]["generation"] + 1
        return self.put(wanted)


DECLARED = {
    "DeploymentSpec": {"replicas", "revisionHistoryLimit", "progressDeadlineSeconds", "selector", "strategy", "template"},
    "PodSpec": {
        "activeDeadlineSeconds", "affinity", "automountServiceAccountToken", "containers", "dnsPolicy", "enableServiceLinks", "hostAliases",
        "imagePullSecrets", "initContainers", "nodeSelector", "priorityClassName", "restartPolicy", "runtimeClassName", "securityContext",
        "serviceAccountName", "terminationGracePeriodSeconds", "tolerations", "topologySpreadConstraints", "volumes",
    },
    "Container": {
        "args", "command", "env", "envFrom", "image", "imagePullPolicy", "lifecycle", "livenessProbe", "name", "ports", "readinessProbe",
        "resources", "securityContext", "startupProbe", "terminationMessagePolicy", "volumeMounts", "workingDir",
    },
}  # fmt: skip
QUANTITY = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"


def unreadable(body: Json) -> str | None:
    """What Kubernetes 1.34 answers, with status 500, to an apply that it cannot read; None where it can."""
    template = body.get("spec", {}).get("template") if body["kind"] in ("Deployment", "StatefulSet", "Job") else None
    if template is None:
        return None
    meta = body["metadata"]
    thing = f"({meta['namespace']}/{meta['name']}; {body['apiVersion']}, Kind={body['kind']})"
    spec = template["spec"]
    for name in spec.keys() - DECLARED["PodSpec"]:
        return f"failed to create typed patch object {thing}: .spec.template.spec.{name}: field not declared in schema"
    if not isinstance(spec["containers"], list):
        return f"failed to create typed patch object {thing}: .spec.template.spec.containers: expected list, got &{{{spec['containers']}}}"
    for container in spec["containers"]:
        for name in container.keys() - DECLARED["Container"]:
            path = f'.spec.template.spec.containers[name="{container.get("name")}"].{name}'
            return f"failed to create typed patch object {thing}: {path}: field not declared in schema"
        amounts = [amount for part in container.get("resources", {}).values() for amount in part.values()]
        if not all(re.match(QUANTITY, str(amount)) for amount in amounts):
            kind = f"{body['apiVersion']}, Kind={body['kind']}"
            return (
                f"failed to convert new object {thing} to proper version: "
                f"unable to convert unstructured object to {kind}: quantities must match the regular expression '{QUANTITY}'"
            )
    return None


def _merged(live: Any, body: Any) -> Any:
    if not isinstance(live, dict) or not isinstance(body, dict):
        return body
    return {**live, **{name: _merged(live.get(name), value) for name, value in body.items()}}


def _member(body: Any, path: str) -> Any:
    for name in path.split("."):
        body = body.get(name, {})
    return body


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
    async with serve(app) as url, connect(Configuration(host=url)) as cluster:
        yield cluster

"""The only caller of the Kubernetes API: a few verbs over the official client, and the only list of what RBAC must grant.

Watches are kopf's; everything that is read on demand or written goes through here. Objects are plain dictionaries: the
client's models are never built, and where a kind lives is written down here rather than discovered (decision 23).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

from aiki_operator.names import API_VERSION, FIELD_MANAGER, GATEWAY_API
from aiki_operator.reporting.hiding import unquoted
from aiki_operator.reporting.outage import NO_JSON, explain
from aiki_operator.reporting.telemetry import API_REQUESTS

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient, ApiException

Json = Mapping[str, Any]

TIMEOUT = aiohttp.ClientTimeout(total=15)
"""For each request. The client's own is five minutes, in which a whole Lease would pass."""
CONTENT = {"apply": "application/apply-patch+yaml", "merge": "application/merge-patch+json"}


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind lives in the API."""

    api_version: str
    plural: str

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """The URL path of a collection, an object or a part of it."""
        root = f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"
        scope = f"/namespaces/{namespace}" if namespace else ""
        return "/".join(part for part in (f"{root}{scope}/{self.plural}", name, subresource) if part)


RESOURCES = {
    "AikiServer": Resource(API_VERSION, "aikiservers"),
    "AikiWorkerPool": Resource(API_VERSION, "aikiworkerpools"),
    "Deployment": Resource("apps/v1", "deployments"),
    "StatefulSet": Resource("apps/v1", "statefulsets"),
    "Job": Resource("batch/v1", "jobs"),
    "CronJob": Resource("batch/v1", "cronjobs"),
    "Pod": Resource("v1", "pods"),
    "PersistentVolumeClaim": Resource("v1", "persistentvolumeclaims"),
    "Secret": Resource("v1", "secrets"),
    "ConfigMap": Resource("v1", "configmaps"),
    "Service": Resource("v1", "services"),
    "Ingress": Resource("networking.k8s.io/v1", "ingresses"),
    "HTTPRoute": Resource(GATEWAY_API, "httproutes"),
    "NetworkPolicy": Resource("networking.k8s.io/v1", "networkpolicies"),
    "PodDisruptionBudget": Resource("policy/v1", "poddisruptionbudgets"),
    "Lease": Resource("coordination.k8s.io/v1", "leases"),
    "Event": Resource("v1", "events"),
}


UNREADABLE = ("failed to create typed", "failed to convert new object", "unable to convert")
"""How a server-side apply is refused that the API server cannot read: with status 500, although it is the manifest that is wrong.

A field that does not exist, a list where a map belongs, a key given twice; and a quantity or a time that cannot be read.
"""


NO_SUCH_KIND = "the cluster has no such kind: install its CRDs"
"""The answer about an object of a kind that the cluster does not have; the Gateway API's are not on every one."""


class ClusterError(Exception):
    """The API server did not do what was asked; worth trying again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class ClusterRefused(ClusterError):
    """The API server will not take this, however often: invalid, or forbidden."""


class WriteConflict(ClusterError):
    """Somebody else wrote first."""


class Cluster:
    """The Kubernetes API; `connection.connect` makes it and closes it."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def list(
        self, kind: str, namespace: str | None, *, selector: str | None = None, fields: str | None = None
    ) -> tuple[list[dict[str, Any]], int]:
        """All objects of a kind, and the resource version of the list."""
        query = {name: value for name, value in (("labelSelector", selector), ("fieldSelector", fields)) if value}
        found = await self._call("GET", kind, RESOURCES[kind].path(namespace), query=query)
        items = [{"apiVersion": RESOURCES[kind].api_version, "kind": kind, **item} for item in found["items"]]
        return items, int(found["metadata"]["resourceVersion"])

    async def get(self, kind: str, namespace: str, name: str) -> dict[str, Any] | None:
        """An object, or None where there is none."""
        try:
            return await self._call("GET", kind, RESOURCES[kind].path(namespace, name))
        except ClusterError as error:
            if error.status == 404:
                return None
            raise

    async def apply(self, manifest: Json, *, subresource: str = "", manager: str = FIELD_MANAGER) -> dict[str, Any]:
        """Server-side apply: our fields become what the manifest says, everybody else's stay."""
        kind, meta = manifest["kind"], manifest["metadata"]
        path = RESOURCES[kind].path(meta["namespace"], meta["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        return await self._call("PATCH", kind, path, query=query, body=manifest, content=CONTENT["apply"])

    async def resize(self, kind: str, namespace: str, name: str, replicas: int) -> dict[str, Any]:
        """Changes the number of pods of a workload and nothing else of it."""
        return await self.merge(kind, namespace, name, {"spec": {"replicas": replicas}})

    async def merge(self, kind: str, namespace: str, name: str, patch: Json) -> dict[str, Any]:
        """Changes some fields of an object that is there."""
        path, query = RESOURCES[kind].path(namespace, name), {"fieldManager": FIELD_MANAGER}
        return await self._call("PATCH", kind, path, query=query, body=patch, content=CONTENT["merge"])

    async def create(self, manifest: Json) -> bool:
        """Creates an object; False where it is there already."""
        kind, meta = manifest["kind"], manifest["metadata"]
        try:
            await self._call("POST", kind, RESOURCES[kind].path(meta["namespace"]), query={"fieldManager": FIELD_MANAGER}, body=manifest)
        except WriteConflict:
            return False
        return True

    async def replace(self, manifest: Json) -> dict[str, Any]:
        """Writes an object if nobody has since it was read; raises Conflict otherwise."""
        kind, meta = manifest["kind"], manifest["metadata"]
        return await self._call("PUT", kind, RESOURCES[kind].path(meta["namespace"], meta["name"]), body=manifest)

    async def annotate(self, kind: str, namespace: str, name: str, annotations: Mapping[str, str]) -> None:
        """Sets annotations of an object that somebody else owns."""
        await self.merge(kind, namespace, name, {"metadata": {"annotations": annotations}})

    async def delete(self, kind: str, namespace: str, name: str, *, version: str | None = None) -> None:
        """Deletes an object and what it owns, if it has the resource version that is given; one that is gone is fine."""
        only = {} if version is None else {"preconditions": {"resourceVersion": version}}
        try:
            await self._call("DELETE", kind, RESOURCES[kind].path(namespace, name), body={"propagationPolicy": "Background", **only})
        except ClusterError as error:
            if error.status != 404:
                raise

    async def _call(
        self,
        method: str,
        kind: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content: str = "application/json",
    ) -> dict[str, Any]:
        from kubernetes.aio.client import ApiException  # noqa: PLC0415 - whoever only reads RESOURCES does not pay for the client
        from kubernetes.aio.config import ConfigException  # noqa: PLC0415

        headers = {"Accept": "application/json", "Content-Type": content}
        try:
            request = await self._client.param_serialize(
                method, path, query_params=[*(query or {}).items()], header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            response = await self._client.call_api(*request, _request_timeout=TIMEOUT)
            API_REQUESTS.labels(method, kind, str(response.status)).inc()
            await response.read()
            answer = self._client.response_deserialize(response, {"2XX": "object"}).data
        except ApiException as error:
            if not error.status:  # the client's own: it cannot read the answer
                raise ClusterError(0, f"{method} {path}: {NO_JSON}") from error
            raise _error(error.status, NO_SUCH_KIND if _unknown(error) else unquoted(_words(error))) from error
        except ConfigException as error:
            raise ClusterError(0, f"{method} {path}: the service account's token cannot be read: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ClusterError(0, f"{method} {path}: {explain(error)}") from error
        if not isinstance(answer, dict):
            raise ClusterError(0, f"{method} {path}: {NO_JSON}")
        return answer


def _error(status: int, message: str) -> ClusterError:
    if status == 500 and any(words in message for words in UNREADABLE):
        return ClusterRefused(status, message)
    if status == 404 and message == NO_SUCH_KIND:
        return ClusterRefused(status, message)
    kind = {400: ClusterRefused, 403: ClusterRefused, 409: WriteConflict, 422: ClusterRefused}.get(status, ClusterError)
    return kind(status, message)


def _unknown(error: ApiException) -> bool:
    """A kind that the API server does not know is answered in plain text."""
    return bool(error.status == 404 and "json" not in (error.headers or {}).get("Content-Type", ""))


def _words(error: ApiException) -> str:
    """What the API server said; whatever stands before it may answer with no JSON."""
    try:
        said = json.loads(error.body or "")
    except json.JSONDecodeError:
        said = None
    message = said.get("message") if isinstance(said, dict) else None
    return str(message or error.body or error.reason or "it gives no reason")

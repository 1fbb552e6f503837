"""What a test does with the cluster: kubectl and helm as a person types them, and quick looks through the API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiki_operator.kubernetes.client import Cluster
from e2e.site import Site
from support.waiting import until

Json = dict[str, Any]


class Failed(AssertionError):
    """A command failed; what it said is the message."""


class Kube:
    """The cluster, in one namespace unless told otherwise."""

    def __init__(self, site: Site, cluster: Cluster, namespace: str) -> None:
        self.site = site
        self.cluster = cluster
        self.namespace = namespace

    def inside(self, namespace: str) -> Kube:
        """The same cluster, another namespace."""
        return Kube(self.site, self.cluster, namespace)

    async def run(self, *words: str, stdin: str | None = None, ok: bool = True) -> str:
        """A command; what it printed, on both channels if it may fail."""
        process = await asyncio.create_subprocess_exec(
            *words, env=self.site.env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await process.communicate(stdin.encode() if stdin is not None else None)
        if ok and process.returncode:
            raise Failed(f"$ {' '.join(words)}\n{out.decode()}{err.decode()}")
        return out.decode() if ok else out.decode() + err.decode()

    async def kubectl(self, *words: str, stdin: str | None = None, ok: bool = True) -> str:
        """Kubectl in the namespace."""
        return await self.run("kubectl", "--namespace", self.namespace, *words, stdin=stdin, ok=ok)

    async def helm(self, *words: str, ok: bool = True) -> str:
        """Helm in the namespace."""
        return await self.run("helm", "--namespace", self.namespace, *words, ok=ok)

    async def apply(self, *manifests: Json, ok: bool = True) -> str:
        """`kubectl apply`."""
        return await self.kubectl("apply", "--filename=-", stdin="\n---\n".join(json.dumps(manifest) for manifest in manifests), ok=ok)

    async def get(self, kind: str, name: str) -> Json | None:
        """An object."""
        return await self.cluster.get(kind, self.namespace, name)

    async def all(self, kind: str, selector: str | None = None) -> list[Json]:
        """Objects."""
        return (await self.cluster.list(kind, self.namespace, selector=selector))[0]

    async def condition(self, kind: str, name: str, condition: str) -> Json:
        """A condition that speaks of the latest spec, or nothing."""
        body = await self.get(kind, name) or {}
        generation = body.get("metadata", {}).get("generation", 0)
        found = body.get("status", {}).get("conditions", [])
        return next((one for one in found if one["type"] == condition and one.get("observedGeneration") == generation), {})

    async def ready(self, kind: str, name: str, seconds: float = 120) -> float:
        """Waits until a custom resource is ready; how long that took."""

        async def is_ready() -> bool:
            return (await self.condition(kind, name, "Ready")).get("status") == "True"

        return await time_until(f"{kind} {name} is ready", is_ready, seconds)

    async def told(self, name: str, reason: str) -> list[Json]:
        """The events of an object with a reason: at least one, which is written a moment after the condition that it tells of."""

        async def there() -> list[Json]:
            return [one for one in await self.events(name) if one["reason"] == reason]

        found: list[Json] = await until(there, f"an event {reason} of {name}", seconds=15)
        return found

    async def events(self, name: str) -> list[Json]:
        """The events of an object, oldest first."""
        found = [event for event in await self.all("Event") if event["involvedObject"]["name"] == name]
        return sorted(found, key=lambda event: int(event["metadata"]["resourceVersion"]))

    async def pods(self, selector: str) -> list[Json]:
        """Pods that are not leaving."""
        return [pod for pod in await self.all("Pod", selector) if "deletionTimestamp" not in pod["metadata"]]

    async def replicas(self, pool: str) -> int:
        """Pods that the pool's Deployments ask for."""
        return sum(one["spec"]["replicas"] for one in await self.all("Deployment", f"aiki.dev/pool={pool}"))


async def time_until(what: str, condition: Callable[[], Awaitable[object]], seconds: float, *, every: float = 0.1) -> float:
    """Wait for a condition; how many seconds that took. Fails with what was waited for."""
    began = time.monotonic()
    await until(condition, what, seconds=seconds, every=every)
    return time.monotonic() - began


def named(kind: str, name: str, spec: Json, **more: Any) -> Json:
    """A custom resource of ours."""
    return {"apiVersion": "aiki.dev/v1alpha1", "kind": kind, "metadata": {"name": name, **more}, "spec": spec}


def is_ready(pod: Json) -> bool:
    """Whether a pod is ready."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))

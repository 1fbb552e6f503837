"""What an AikiServer has besides workloads and Secrets: few objects, which are read by name and not watched.

Hardly anybody but the operator writes them, so a server at rest has them read once a minute: what somebody else takes
away or changes is put right within that time. While anything of the server is unfinished, and after each write, they are
read every round; a route always is, because gateways answer in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiki_operator.kubernetes.cache import Key, owner_of
from aiki_operator.kubernetes.client import Cluster
from aiki_operator.manifests import network
from aiki_operator.manifests.databases import backup, statefulset
from aiki_operator.plan.server.credentials import claim_names
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.server import ServerSpec

Json = Mapping[str, Any]

ROUTE = "HTTPRoute"
KINDS: Mapping[str, Callable[[Owner], tuple[str, ...]]] = {
    "Service": lambda owner: (owner.name, statefulset.postgres_name(owner), statefulset.redis_name(owner)),
    "PodDisruptionBudget": lambda owner: (owner.name,),
    "Ingress": lambda owner: (owner.name,),
    ROUTE: lambda owner: (owner.name,),
    "NetworkPolicy": network.names,
}
"""The names that ours have, by kind."""
BESIDE: tuple[tuple[str, Callable[[Owner], tuple[str, ...]]], ...] = (
    ("CronJob", lambda owner: (backup.cron_job_name(owner),)),
    ("NetworkPolicy", network.job_names),
)
"""The same for backups and restores, where they are asked for or were: the others pay nothing for them."""
AGAIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class FoundObjects:
    """What was there: what was made for the server, by kind and name, and the claims of its databases, which outlive it."""

    objects: Mapping[tuple[str, str], Json]
    claims: Mapping[str, Json]


class NamedObjects:
    """These objects of all servers, as they were read last; lives as long as the process."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._read: dict[Key, tuple[Owner, float, FoundObjects]] = {}
        self._without_route: dict[Key, int] = {}
        """The generation of a server at which it had no route: few clusters have the Gateway API, so it is not asked each time."""

    async def of(self, key: Key, spec: ServerSpec, *, beside: bool = False) -> FoundObjects:
        """What is there, or was there less than a minute ago; with `beside`, what backups and restores have as well."""
        known = self._read.get(key)
        if known is None or known[0] != spec.owner or self._clock() >= known[1]:
            claims = {name: await self._cluster.get("PersistentVolumeClaim", key.namespace, name) for name in claim_names(spec)}
            kinds = [*((kind, names) for kind, names in KINDS.items() if kind != ROUTE), *(BESIDE if beside else ())]
            there = {name: claim for name, claim in claims.items() if claim is not None}
            found = FoundObjects(await self._look(key, spec, kinds), there)
            known = self._read[key] = (spec.owner, self._clock() + AGAIN_SECONDS, found)
        return replace(known[2], objects={**known[2].objects, **await self._look(key, spec, [(ROUTE, KINDS[ROUTE])])})

    def forget(self, key: Key) -> None:
        """Something of it was written, or is unfinished: the next round reads again."""
        self._read.pop(key, None)

    async def _look(
        self, key: Key, spec: ServerSpec, kinds: Iterable[tuple[str, Callable[[Owner], tuple[str, ...]]]]
    ) -> dict[tuple[str, str], Json]:
        found: dict[tuple[str, str], Json] = {}
        for kind, names in kinds:
            if kind == ROUTE and spec.gateway is None and self._without_route.get(key) == spec.owner.generation:
                continue
            for name in names(spec.owner):
                live = await self._cluster.get(kind, key.namespace, name)
                if live is not None and ours(live, key):
                    found[kind, name] = live
                elif kind == ROUTE and spec.gateway is None:
                    self._without_route[key] = spec.owner.generation
        return found


def ours(body: Json, key: Key) -> bool:
    """Whether an object that was read by name was made for this server, and not by somebody else under the same name."""
    owner = owner_of(body)
    return owner is not None and owner == key

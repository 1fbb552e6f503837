"""What a pool has beside its Deployments: its own Secret and policy where it needs them, and the budget of its pods."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping

from aiki_operator.kubernetes.cache import Key, owner_of
from aiki_operator.kubernetes.client import Cluster
from aiki_operator.manifests import disruption, network, secret
from aiki_operator.names import pool_secret
from aiki_operator.plan.difference import marked
from aiki_operator.plan.rejection import Rejection
from aiki_operator.reconcile.access import ServerAccess
from aiki_operator.reconcile.write.writer import ClusterWriter
from aiki_operator.spec.pool import PoolSpec

log = logging.getLogger(__name__)

AGAIN_SECONDS = 60.0
"""How often it is seen to that what a pool has beside it is there."""


class PoolObjects:
    """Keeps what is beside pools as it should be; what the API server does not take is added to `refused`."""

    def __init__(self, cluster: Cluster, writer: ClusterWriter, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._writer = writer
        self._clock = clock
        self._handed: dict[Key, tuple[str, float]] = {}
        self._withdrawn: dict[Key, int] = {}
        """The generation of a pool at which it was seen to have no token."""
        self._budgets: dict[Key, tuple[int, float]] = {}

    async def given(self, key: Key, spec: PoolSpec, access: ServerAccess, refused: list[Rejection]) -> str | None:
        """Sees to it that the pool's workers have what they need to reach the server; a digest of it, None if they cannot have it."""
        config = access.config(spec.namespace)
        known, until = self._handed.get(key, (None, 0.0))
        if config is None or not spec.own_secret:
            await self.withdraw(key, spec, refused)
            return config
        if known == config and self._clock() < until:
            return config
        self._withdrawn.pop(key, None)
        manifests = [secret.pool(spec, access.url, access.tokens[spec.namespace])]
        if spec.server_namespace != spec.owner.namespace:
            manifests.append(network.of_pool(spec))
        for manifest in manifests:
            if not await self._applied(key, manifest, refused):
                return None
        self._handed[key] = (config, self._clock() + AGAIN_SECONDS)
        return config

    async def withdraw(self, key: Key, spec: PoolSpec, refused: list[Rejection]) -> None:
        """Takes the token out of the pool's own Secret, where it has one and is to have none; that is looked at once.

        The Secret stays, empty: to delete it would take the right to delete every Secret. No pod starts with it.
        """
        self._handed.pop(key, None)
        if self._withdrawn.get(key) == spec.owner.generation:
            return
        live = await self._cluster.get("Secret", key.namespace, pool_secret(key.name))
        if live is None or owner_of(live) != key or not live.get("data"):
            self._withdrawn[key] = spec.owner.generation
        elif await self._applied(key, secret.withdrawn(spec), refused):
            self._withdrawn[key] = spec.owner.generation
            log.info("token withdrawn", extra={"namespace": key.namespace, "pool": key.name})

    async def budget(self, key: Key, spec: PoolSpec, refused: list[Rejection]) -> None:
        """Sees to it that the pool's pods have the budget that the spec asks for. Where it asks for none, that is looked at once."""
        generation, until = self._budgets.get(key, (0, 0.0))
        if generation == spec.owner.generation and self._clock() < until:
            return
        wanted = spec.disruption_budget
        done = (
            await self._unbudgeted(key, refused) if wanted is None else await self._applied(key, disruption.of_pool(spec, wanted), refused)
        )
        if done:
            self._budgets[key] = (spec.owner.generation, math.inf if wanted is None else self._clock() + AGAIN_SECONDS)

    def forget(self, key: Key) -> None:
        """The pool is gone."""
        self._handed.pop(key, None)
        self._withdrawn.pop(key, None)
        self._budgets.pop(key, None)

    async def _applied(self, key: Key, manifest: Mapping[str, object], refused: list[Rejection]) -> bool:
        made = marked(manifest)
        live = await self._cluster.get(made["kind"], key.namespace, made["metadata"]["name"])
        done = await self._writer.apply(made, live=live)
        if done is not None and done.rejection is not None:
            refused.append(done.rejection)
            return False
        return True

    async def _unbudgeted(self, key: Key, refused: list[Rejection]) -> bool:
        place = Key("PodDisruptionBudget", key.namespace, pool_secret(key.name))
        live = await self._cluster.get(*place)
        if live is None or owner_of(live) != key:
            return True
        rejection = await self._writer.delete(place)
        refused += [rejection] if rejection is not None else []
        return rejection is None

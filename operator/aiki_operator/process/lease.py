"""Which of the operator's replicas acts: the one that holds a Lease.

A holder that cannot renew in time ends its process rather than act beside another. A clean stop gives the Lease back, so
the other replica takes over at once. Age is measured by when this process saw the Lease change: no clocks are compared.

A holder that is killed costs the Lease's duration. It is as short as three renewals and a pause let it be: a renewal is one
request, which may fail twice before the holder ends, and the one that stands by looks again at the very moment of expiry.
The official client's own election does none of these (decision 23 has the figures).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from aiki_operator.kubernetes.client import Cluster, ClusterError, WriteConflict
from aiki_operator.reporting.telemetry import LEADER

LEASE_SECONDS = 8
RENEW_SECONDS = 2.0
RETRY_SECONDS = 3.5
"""Between the looks of one that stands by: what it may begin later than the Lease lasts, and less than a third of a request a second."""
GIVE_UP_SECONDS = LEASE_SECONDS - RENEW_SECONDS
"""A holder ends this long after its last renewal began: well before another may begin."""

log = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The Lease could not be renewed in time, or is somebody else's."""


class LeaderLease:
    """The Lease of one operator installation; `identity` is this process. `monotonic` and `sleep` are the time that it lives in."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._monotonic = monotonic
        self._sleep = sleep
        self._seen: tuple[Any, Any, float] | None = None
        self._mine: dict[str, Any] | None = None
        """The Lease as this process wrote it last: to renew it, it need not be read."""
        self.checked_at = self._monotonic()
        self.held = False

    async def acquire(self) -> None:
        """Waits until this process holds the Lease."""
        while not await self._attempt():
            await self._sleep(min(RETRY_SECONDS, self._expires_in()))
        self.held = True
        LEADER.set(1)
        log.info("lease acquired", extra={"identity": self._identity})

    async def keep(self) -> None:
        """Renews until cancelled; raises LeaseLost."""
        renewed = self._monotonic()
        while True:
            await self._sleep(max(0.0, min(RENEW_SECONDS, renewed + GIVE_UP_SECONDS - self._monotonic())))
            began = self._monotonic()
            if await self._attempt_within(renewed + GIVE_UP_SECONDS - began):
                renewed = began  # others may have seen it as early as this
            elif self._monotonic() - renewed >= GIVE_UP_SECONDS:
                raise LeaseLost(f"not renewed for {self._monotonic() - renewed:.0f} s")

    async def release(self) -> None:
        """Gives the Lease back, if it is ours."""
        LEADER.set(0)
        found = await self._cluster.get("Lease", self._namespace, self._name)
        if found is not None and found["spec"].get("holderIdentity") == self._identity:
            await self._cluster.replace({**found, "spec": {**found["spec"], "holderIdentity": ""}})
            log.info("lease released", extra={"identity": self._identity})

    async def _attempt_within(self, seconds: float) -> bool:
        """An attempt that ends in time even where the API server neither answers nor refuses."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                return await self._attempt()
        except TimeoutError:
            return False

    async def _attempt(self) -> bool:
        """Takes or renews the Lease; False where somebody else holds it, or the API server does not answer."""
        try:
            taken = await self._take()
        except WriteConflict:
            taken = False  # another was quicker
        except ClusterError as error:
            log.warning("lease not reached", extra={"error": str(error)})
            taken = False
        self.checked_at = self._monotonic()
        return taken

    async def _take(self) -> bool:
        if self._mine is not None:
            known, self._mine = self._mine, None
            try:
                self._mine = await self._cluster.replace(self._manifest(known["metadata"], transitions=known["spec"]["leaseTransitions"]))
            except WriteConflict:
                log.info("lease was written by somebody else", extra={"identity": self._identity})
            else:
                return True
        found = await self._cluster.get("Lease", self._namespace, self._name)
        if found is None:
            return await self._cluster.create(self._manifest({}, transitions=0))
        holder = found["spec"].get("holderIdentity") or ""
        if self.held and holder != self._identity:
            raise LeaseLost(f"it is held by {holder or 'nobody'}")
        if holder not in ("", self._identity) and not self._expired(found):
            return False
        transitions = found["spec"].get("leaseTransitions", 0) + (holder != self._identity)
        self._mine = await self._cluster.replace(self._manifest(found["metadata"], transitions=transitions))
        return True

    def _expired(self, found: dict[str, Any]) -> bool:
        """Whether the holder has not renewed for as long as the Lease lasts, since we began to look."""
        spec, now = found["spec"], self._monotonic()
        if self._seen is None or self._seen[:2] != (spec.get("holderIdentity"), spec.get("renewTime")):
            self._seen = (spec.get("holderIdentity"), spec.get("renewTime"), now)
        return bool(now - self._seen[2] > spec.get("leaseDurationSeconds", LEASE_SECONDS))

    def _expires_in(self) -> float:
        """Seconds until a Lease that is not renewed may be taken."""
        return RETRY_SECONDS if self._seen is None else max(0.05, self._seen[2] + LEASE_SECONDS + 0.05 - self._monotonic())

    def _manifest(self, meta: dict[str, Any], *, transitions: int) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        kept = {"resourceVersion": meta["resourceVersion"]} if "resourceVersion" in meta else {}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name, "namespace": self._namespace, **kept},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": LEASE_SECONDS,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }

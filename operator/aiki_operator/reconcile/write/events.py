"""Events of custom resources: what happened, told once; the same thing again counts up the event that is there.

An event that cannot be written is logged, and nothing else: people can do without it, the pool cannot do without its turn.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiki_operator.kubernetes.cache import Key, key_of
from aiki_operator.kubernetes.client import Cluster, ClusterError
from aiki_operator.names import FIELD_MANAGER
from aiki_operator.reporting.conditions import Notice, sentence

Json = Mapping[str, Any]

REMEMBERED_SECONDS = 3000.0
"""Kubernetes forgets events after an hour."""
AGAIN_SECONDS = 15.0
"""An event that repeats itself is counted up no more often than this; the times between are counted too."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _WrittenEvent:
    """An event that there is."""

    name: str
    count: int
    written_at: float


class EventWriter:
    """The events that this process has written; lives as long as the writer."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._written: dict[tuple[Key, str, str], _WrittenEvent] = {}

    async def tell(self, body: Json, notice: Notice, *, at: str) -> None:
        """Writes the event, or counts it up."""
        key = key_of(body)
        log.log(
            logging.WARNING if notice.warning else logging.INFO,
            notice.message,
            extra={"namespace": key.namespace, "kind": key.kind, "object": key.name, "reason": notice.reason},
        )
        known = self._written.get((key, notice.reason, notice.message))
        try:
            if known is None:
                await self._create(key, body, notice, at)
            else:
                await self._count(key, known, at)
        except ClusterError as error:
            log.warning("event not written", extra={"namespace": key.namespace, "object": key.name, "error": str(error)})
            self._written.pop((key, notice.reason, notice.message), None)

    def sweep(self) -> None:
        """Forgets the events that Kubernetes is about to forget."""
        for one in [one for one, known in self._written.items() if self._clock() - known.written_at > REMEMBERED_SECONDS]:
            del self._written[one]

    async def _count(self, key: Key, known: _WrittenEvent, at: str) -> None:
        known.count += 1
        if self._clock() - known.written_at < AGAIN_SECONDS:
            return
        known.written_at = self._clock()
        await self._cluster.merge("Event", key.namespace, known.name, {"count": known.count, "lastTimestamp": at})

    async def _create(self, key: Key, body: Json, notice: Notice, at: str) -> None:
        # kubectl orders by the second, and what happened within one by name.
        name = f"{key.name}.{time.time_ns():016x}{secrets.token_hex(2)}"
        reference = {
            "apiVersion": body["apiVersion"],
            "kind": key.kind,
            "name": key.name,
            "namespace": key.namespace,
            "uid": body["metadata"]["uid"],
        }
        await self._cluster.create(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": key.namespace},
                "involvedObject": reference,
                "reason": notice.reason,
                "message": sentence(notice.message)[:1024],
                "type": "Warning" if notice.warning else "Normal",
                "firstTimestamp": at,
                "lastTimestamp": at,
                "count": 1,
                "source": {"component": FIELD_MANAGER},
                "reportingComponent": FIELD_MANAGER,
            }
        )
        self._written[key, notice.reason, notice.message] = _WrittenEvent(name, 1, self._clock())

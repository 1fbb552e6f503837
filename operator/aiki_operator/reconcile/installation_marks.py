"""Which of several installations acts for an AikiServer and its pools: the one whose mark in the status is renewed.

The replicas of one installation share a Lease. Two installations that serve one namespace know nothing of each other's,
so the one that acts signs the AikiServer's status and renews that while it acts. Whoever finds another's mark leaves the
server and its pools alone until the mark has stood still for a while. As with the Lease, no clocks are compared: what
counts is when this process saw the mark change. Two that begin at once both sign; the later signature is what both read.

The mark says which Kubernetes namespaces its installation serves as well. A pool that lies in another one is left by both:
by the one that acts, which does not see it, and by the one that sees it, which does not act. The latter tells the pool.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from aiki_operator.kubernetes.cache import Key, key_of

Json = Mapping[str, Any]

RENEW_SECONDS = 15.0
"""A round for a server at rest comes every 20 s: three writes a minute."""
EXPIRES_SECONDS = 60.0


class InstallationMarks:
    """The marks of an installation and of others; lives as long as the process."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic, *, namespaces: Sequence[str] = ()) -> None:
        self.name = name
        self._namespaces = sorted(namespaces)
        """The Kubernetes namespaces that this installation serves; none if it serves all."""
        self._clock = clock
        self._seen: dict[Key, tuple[Json, float]] = {}
        self._mine: dict[Key, tuple[Json, float]] = {}

    def other(self, body: Json) -> str | None:
        """The other installation that acts for an AikiServer; None where this one does, or is to."""
        key, mark = key_of(body), body.get("status", {}).get("operator") or {}
        if mark.get("name", self.name) == self.name:
            self._seen.pop(key, None)
            return None
        known = self._seen.get(key)
        if known is None or known[0] != mark:
            known = self._seen[key] = (mark, self._clock())
        return None if self._clock() - known[1] > EXPIRES_SECONDS else str(mark["name"])

    def mark(self, body: Json) -> Json:
        """The signature of this installation; a new one now and then. That of the replica before is good for the first round."""
        key, found = key_of(body), body.get("status", {}).get("operator") or {}
        known = self._mine.get(key)
        if known is None and found.get("name") == self.name:
            known = self._mine[key] = (found, self._clock() - RENEW_SECONDS)
        if known is None or self._clock() - known[1] > RENEW_SECONDS:
            signed_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            known = self._mine[key] = ({"name": self.name, "renewedAt": signed_at, "namespaces": self._namespaces}, self._clock())
        return known[0]

    @staticmethod
    def serves(body: Json, namespace: str) -> bool:
        """Whether the installation that signed an AikiServer says that it serves a Kubernetes namespace."""
        served = (body.get("status", {}).get("operator") or {}).get("namespaces")
        return not served or namespace in served

    def forget(self, key: Key) -> None:
        """The server is gone."""
        self._seen.pop(key, None)
        self._mine.pop(key, None)

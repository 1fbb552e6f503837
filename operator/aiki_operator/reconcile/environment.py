"""What is in the Secrets and ConfigMaps that pods take their environment from, as digests that tell nothing of the content.

They are read and not watched: a change is seen within `READ_SECONDS`, and pools without such references cost nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterable

from aiki_operator.kubernetes.client import Cluster
from aiki_operator.manifests.pods.references import Reference

READ_SECONDS = 20.0


class EnvironmentDigests:
    """The contents that were read lately; lives as long as the process."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._read: dict[tuple[str, Reference], tuple[float, str]] = {}

    async def digests(self, namespace: str, wanted: Iterable[Reference], *, key: str) -> dict[Reference, str]:
        """A digest for each; one that does not exist has the digest of nothing. `key` is a secret, so that weak values cannot be guessed."""
        found = {}
        for reference in wanted:
            content = await self._content(namespace, reference)
            found[reference] = hmac.new(key.encode(), content.encode(), hashlib.sha256).hexdigest()[:16]
        return found

    def sweep(self) -> None:
        """Forgets what nobody has asked for lately."""
        old = [one for one, (read_at, _) in self._read.items() if self._clock() - read_at > 2 * READ_SECONDS]
        for one in old:
            del self._read[one]

    async def _content(self, namespace: str, reference: Reference) -> str:
        read_at, content = self._read.get((namespace, reference), (None, ""))
        if read_at is not None and self._clock() - read_at < READ_SECONDS:
            return content
        body = await self._cluster.get(reference.kind, namespace, reference.name) or {}
        content = json.dumps([body.get("data"), body.get("binaryData")], sort_keys=True)
        content = hashlib.sha256(content.encode()).hexdigest()  # what is kept in memory is no Secret
        self._read[namespace, reference] = (self._clock(), content)
        return content

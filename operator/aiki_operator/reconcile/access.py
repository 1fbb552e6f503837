"""How the operator and the workers of pools reach an Aiki server: read from its Secrets in each round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiki_operator.names import digest
from aiki_operator.spec.server import Allowed


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """How to reach a server: its address and a token for each Aiki namespace, and which Kubernetes namespaces may have pools of it."""

    url: str
    tokens: Mapping[str, str] = field(repr=False)
    allowed: Allowed

    def config(self, namespace: str) -> str | None:
        """A digest of what the workers of an Aiki namespace need; None if there is no such namespace."""
        token = self.tokens.get(namespace)
        return None if token is None else digest([self.url, token], length=16)

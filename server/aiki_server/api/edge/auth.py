"""Tokens: each belongs to one namespace. Looked up by their digest, so that no comparison takes longer for a better guess.

Headers as the SDK writes them are found whole: a dictionary compares what has the same hash, which is made with a key of the process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256

from aiki_server.api.http.errors import no_token

WORKERS = "/api/v1/worker/"
POOLS = ("/api/v1/pools/", "/api/v1/workers/", "/api/v1/pods/")
"""What the operator changes."""


class Tokens:
    """`namespace` of an Authorization header. Without tokens (insecure) everybody is in `default`."""

    def __init__(self, tokens: Mapping[str, str], *, clients: Collection[str] = (), metrics: str | None = None) -> None:
        self._clients = {sha256(token.encode()).digest() for token in clients}
        self._metrics = None if metrics is None else sha256(metrics.encode()).digest()
        self._namespaces = {sha256(token.encode()).digest(): namespace for token, namespace in tokens.items()}
        self._usual = {b"Bearer " + token.encode(): namespace for token, namespace in tokens.items()}

    def namespace(self, header: bytes | None) -> str | None:
        """The namespace that the header's token belongs to; None where it is missing or wrong."""
        if not self._namespaces:
            return "default"
        if header is not None and (namespace := self._usual.get(header)) is not None:
            return namespace
        digest = _digest(header)
        return None if digest is None else self._namespaces.get(digest)

    def permits(self, header: bytes | None, method: str, path: str) -> bool:
        """Whether whoever the token was given to may ask for this; only the tokens of clients are refused anything."""
        if not self._clients or _digest(header) not in self._clients:
            return True
        return not path.startswith(WORKERS) and (method == "GET" or not path.startswith(POOLS))

    def whose_metrics(self, header: bytes | None) -> str | None:
        """The namespace whose figures the token may read; None means those of all. Raises ApiError (401) for no token and wrong ones."""
        if not self._namespaces:
            return None
        digest = _digest(header)
        if digest is not None and digest == self._metrics:
            return None
        namespace = None if digest is None else self._namespaces.get(digest)
        if namespace is None:
            raise no_token()
        return namespace


def _digest(header: bytes | None) -> bytes | None:
    """Of the token in an Authorization header, if there is one."""
    if header is None or header[:7].lower() != b"bearer " or not (token := header[7:].strip()):
        return None
    return sha256(token).digest()

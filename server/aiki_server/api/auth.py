"""Tokens: each belongs to one namespace. Looked up by their digest, so that no comparison takes longer for a better guess."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

from aiki_server.api.errors import no_token


class Tokens:
    """`namespace` of an Authorization header. Without tokens (insecure) everybody is in `default`."""

    def __init__(self, tokens: Mapping[str, str], *, metrics: str | None = None) -> None:
        self._metrics = None if metrics is None else sha256(metrics.encode()).digest()
        self._namespaces = {sha256(token.encode()).digest(): namespace for token, namespace in tokens.items()}

    def namespace(self, header: bytes | None) -> str | None:
        """The namespace that the header's token belongs to; None where it is missing or wrong."""
        if not self._namespaces:
            return "default"
        digest = _digest(header)
        return None if digest is None else self._namespaces.get(digest)

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

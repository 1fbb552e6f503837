"""Tokens: each belongs to one namespace. Looked up by their digest, so that no comparison takes longer for a better guess."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256


class Tokens:
    """`namespace` of an Authorization header. Without tokens (insecure) everybody is in `default`."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        self._namespaces = {sha256(token.encode()).digest(): namespace for token, namespace in tokens.items()}

    def namespace(self, header: bytes | None) -> str | None:
        """The namespace that the header's token belongs to; None where it is missing or wrong."""
        if not self._namespaces:
            return "default"
        if header is None or header[:7].lower() != b"bearer ":
            return None
        return self._namespaces.get(sha256(header[7:].strip()).digest())

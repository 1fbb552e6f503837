"""Secrets that are planted, each for a place, and found again."""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Iterator


class Plants:
    """Makes secrets, each for a place, and finds them again."""

    def __init__(self) -> None:
        self._places: dict[str, str] = {}

    def plant(self, place: str, *, prefix: str = "") -> str:
        """A new secret for a place."""
        core = f"PLANTED{secrets.token_hex(8)}"
        self._places[core] = place
        return f"{prefix}{core}"

    def known(self, secret: str, place: str) -> str:
        """A secret that is there already."""
        self._places[secret] = place
        return secret

    def places(self) -> Iterator[str]:
        """The secrets, those planted last at the end."""
        return iter(self._places)

    def found(self, text: str, where: str) -> list[str]:
        """Which secrets are in a text, as they are or in base64."""
        return [f"{where} has the secret of {place}" for core, place in self._places.items() if core in text or _coded(core) in text]

    def __len__(self) -> int:
        return len(self._places)


def _coded(core: str) -> str:
    """In base64, without the end, which depends on what follows."""
    return b64encode(core.encode()).decode()[: len(core) // 3 * 4]

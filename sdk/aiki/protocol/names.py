"""What things are called on the wire: ids and names with their patterns, where a server is, instants as numbers."""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, NewType

from pydantic import StringConstraints

RunId = NewType("RunId", str)
"""32 lower-case hex digits: 2 of shard, 12 of creation time in milliseconds, 18 of randomness."""
WorkerId = NewType("WorkerId", str)
JsonText = str
"""A JSON document, as text."""
Micros = int
"""Microseconds since the Unix epoch, by the database's clock."""
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,254}$"
RUN_ID_PATTERN = r"^[0-9a-f]{32}$"
DEFAULT_PORT = 8080
DEFAULT_URL = f"http://127.0.0.1:{DEFAULT_PORT}"
"""Where a server answers that was told nothing else, and where clients look for one."""
DOCUMENTS_URL = "https://aiki.dev"
"""Where the documents are read; an error links to its section there. Whoever has no network opens `site/` of `make docs`, which has the same paths."""
CONSUMER_GROUP = "workers"
"""The consumer group of every stream: its consumers are the workers that read it, and each entry goes to one of them."""
Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
RunIdText = Annotated[str, StringConstraints(pattern=RUN_ID_PATTERN)]
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
"""The hosts that are this machine."""
_is_run_id = re.compile(RUN_ID_PATTERN.removesuffix("$")).fullmatch


def is_run_id(text: str) -> bool:
    """Whether a text is the id of a run, as servers write them."""
    return _is_run_id(text) is not None


def explained_at(kind: str) -> str:
    """The section of the documents that explains an error of this kind: an exception's class, the type of a run's error, or the end of a problem's type."""
    return f"{DOCUMENTS_URL}/operate/troubleshooting.html#{kind.lower()}"


def figures_token(token: str) -> str:
    """The token that reads the figures of workers which have `token`, and does nothing else: it can be made of that one, and not the other way round."""
    return hashlib.sha256(f"figures:{token}".encode()).hexdigest()

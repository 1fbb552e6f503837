"""The SQL of the server: named statements in `sql/*.sql`, read once.

`SQL["claims.claim"]` is the statement `claim` of `sql/claims.sql`. In a file every statement begins with `-- name: NAME` and a
line that says its purpose. Everything that runs SQL is in this package, one typed function per name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

_NAMED = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


def read(folder: Path) -> Mapping[str, str]:
    """Every statement below `folder`, by `file.name`."""
    return MappingProxyType({f"{path.stem}.{name}": text for path in sorted(folder.glob("*.sql")) for name, text in _split(path)})


def _split(path: Path) -> list[tuple[str, str]]:
    parts = _NAMED.split(path.read_text())[1:]
    return [(name, text.strip().removesuffix(";")) for name, text in zip(parts[::2], parts[1::2], strict=True)]


SQL = read(Path(__file__).with_name("sql"))

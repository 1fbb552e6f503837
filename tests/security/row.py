"""A row of the table that `make security` prints: what was tried, what must come of it, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Row:
    """One promise, measured. `breaches` says in words what broke it; empty means that it held."""

    what: str
    must: str
    found: str
    breaches: Sequence[str] = field(default=())

    @property
    def held(self) -> bool:
        """Whether the promise was kept."""
        return not self.breaches


def table(rows: Sequence[Row]) -> str:
    """The rows as text for a terminal and a log."""
    cells = [("", "must", "found", ""), *((row.what, row.must, row.found, "ok" if row.held else "BREACH") for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells)

"""What is left when everything has ended: the tables, and the lines that the tasks left."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

Entry = dict[str, Any]


@dataclass(slots=True)
class Recorded:
    """One run."""

    id: str
    row: asyncpg.Record
    entries: list[Entry] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    """The first numbers of the chunks, and one for each further entry in them: 1..n without a gap."""
    epochs: list[int] = field(default_factory=list)
    inbox: list[asyncpg.Record] = field(default_factory=list)
    trace: list[Entry] = field(default_factory=list)

    @property
    def status(self) -> str:
        """What the row says."""
        return str(self.row["status"])

    @property
    def namespace(self) -> str:
        """Whose it is."""
        return str(self.row["namespace"])

    @property
    def parent(self) -> str | None:
        """Who started it."""
        return None if self.row["parent"] is None else self.row["parent"].hex

    def of(self, *kinds: str) -> list[Entry]:
        """The entries of these kinds, in order."""
        return [entry for entry in self.entries if entry["k"] in kinds]

    def calls(self) -> dict[int, Entry]:
        """The calls, by number."""
        return {entry["c"]: entry for entry in self.of("call")}

    def __str__(self) -> str:
        return f"run {self.id} ({self.namespace}, {self.row['ref'] or 'child'}, {self.status})"


async def recorded(url: str, trace: Path) -> dict[str, Recorded]:
    """All runs, by id."""
    database = await asyncpg.connect(url)
    try:
        rows = await database.fetch("select * from runs order by id")
        runs = {row["id"].hex: Recorded(row["id"].hex, row) for row in rows}
        for chunk in await database.fetch("select * from history order by run_id, seq"):
            run = runs[chunk["run_id"].hex]
            entries = json.loads(chunk["entries"])
            run.entries += entries
            run.seqs += range(chunk["seq"], chunk["seq"] + chunk["count"])
            run.epochs.append(chunk["epoch"])
        for item in await database.fetch("select * from inbox order by run_id, seq"):
            runs[item["run_id"].hex].inbox.append(item)
    finally:
        await database.close()
    for run_id, lines in _traced(trace).items():
        runs[run_id].trace = lines
    return runs


def _traced(path: Path) -> dict[str, list[Entry]]:
    by_run: dict[str, list[Entry]] = defaultdict(list)
    for line in path.read_text().splitlines():
        entry = json.loads(line)
        by_run[entry["run"]].append(entry)
    return by_run

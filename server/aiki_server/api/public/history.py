"""Showing a history: chunks of stored text become entries of the public API. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from aiki_server.api.http.render import spliced
from aiki_server.api.http.strict_json import read_array, read_members
from aiki_server.model.instants import instant


class Lines(NamedTuple):
    """What is the same for the entries of one chunk: the number of the first, which of them are wanted, and who wrote them when."""

    seq: int
    after: int
    until: int
    epoch: int
    worker: str | None
    at: int


_read_entries = read_array(lambda text, index: read_members(text, index, limit=1_000_000))


def lines(chunk: Lines, entries: str) -> list[bytes]:
    """The wanted entries of a chunk, each as JSON."""
    found, _ = _read_entries(entries.strip(), 0)
    numbered = enumerate(found, start=chunk.seq)
    return [_line(chunk, seq, members) for seq, members in numbered if chunk.after < seq <= chunk.until]


def _line(chunk: Lines, seq: int, members: Mapping[str, Any]) -> bytes:
    at = members["at"].value if "at" in members else chunk.at
    head = {"seq": seq, "kind": members["k"].value, "at": instant(at), "epoch": chunk.epoch, "worker": chunk.worker}
    data = ",".join(f"{json.dumps(name)}:{member.raw}" for name, member in members.items() if name not in ("k", "at"))
    return spliced(head, {"data": f"{{{data}}}"})

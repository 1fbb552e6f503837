"""Cuts a commit that is larger than a request into parts, in the order of its entries.

Each part is a prefix of what happened, as every commit is. What belongs to an entry travels with it: a child with its reservation, the mark on an inbox
item with the entry that consumed it. The state, the run's last word, travels with the last part.
"""

from __future__ import annotations

from json import JSONDecoder
from typing import Any, Final

from pydantic_core import to_json

from aiki.execution.draft import Draft

_DECODER: Final = JSONDecoder()


def first_part(draft: Draft, limit_bytes: int) -> tuple[Draft, Draft | None]:
    """As many entries as fit into `limit_bytes` on the wire, one at least; and the rest."""
    entries = _entries(draft.entries)
    size = 0
    for index, (text, _) in enumerate(entries):
        size += len(to_json(text))
        if size > limit_bytes and index > 0:
            return _part(draft, entries[:index], state=None), _part(draft, entries[index:], state=draft.state)
    return draft, None


def _entries(array: str) -> list[tuple[str, dict[str, Any]]]:
    """The texts of an array's members, exactly as they stand there, and what they say."""
    found = []
    start = 1
    while start < len(array) - 1:
        entry, end = _DECODER.raw_decode(array, start)
        found.append((array[start:end], entry))
        start = end + 1
    return found


def _part(draft: Draft, entries: list[tuple[str, dict[str, Any]]], *, state: str | None) -> Draft:
    calls = [entry for _, entry in entries if entry["k"] == "call"]
    items = {entry["i"] for _, entry in entries if "i" in entry}
    born = {entry["run"] for entry in calls if "run" in entry}
    return Draft(
        entries=f"[{','.join(text for text, _ in entries)}]",
        count=len(entries),
        steps=len(calls),
        consumed=[item for item in draft.consumed if item in items],
        children=[child for child in draft.children if child.id in born],
        state=state,
    )

"""A finish that was answered `inbox_pending`: what of its commit stays, so that the code looks again for the events that it had given up waiting for.

The code waited for an event until its time was up (`run.wait(order, timeout=0)`), and then ended. Nothing of that is written yet when
the server answers that such an event was accepted meanwhile. So what was written since the clock had its way is taken back, and the run is
handed back to be replayed up to there, with the event in its inbox. The ends of tasks stay: a task whose result is there is not run again.

Nothing is taken back where the code has acted on it already: if a task was started that follows from it, or if an earlier commit holds it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Container, Mapping
from typing import Any

from aiki.execution.batch import JournalBatch
from aiki.protocol import EntryKind

_READ = json.JSONDecoder().raw_decode
_ENDS = frozenset({EntryKind.DONE, EntryKind.FAILED})


def rewound(batch: JournalBatch, *, looks: Mapping[int, Container[str]], came: Collection[str], acted: int) -> JournalBatch | None:
    """What stays of `batch` if events with the names in `came` are to be looked for again; None if none of them was looked for in it.

    `looks` has the timers that fired, each with the events that were awaited then. Of the first `acted` entries all stay.
    """
    texts, entries = _split(batch.entries)
    cut = next((index for index in range(acted, len(entries)) if _gave_up(entries[index], looks, came)), None)
    if cut is None:
        return None
    undone = {entry["c"] for entry in entries[cut:] if entry["k"] == EntryKind.CALL}
    kept = [index for index, entry in enumerate(entries) if index < cut or _is_end_of_task(entry, looks, undone)]
    ids = {entries[index]["run"] for index in kept if "run" in entries[index]}
    cancellations = [index for index, entry in enumerate(entries) if entry["k"] == EntryKind.CHILD_CANCEL_REQUESTED]
    return JournalBatch(
        entries=f"[{','.join(texts[index] for index in kept)}]",
        count=len(kept),
        steps=sum(entries[index]["k"] == EntryKind.CALL for index in kept),
        consumed=[entries[index]["i"] for index in kept if "i" in entries[index]],
        children=[child for child in batch.children if child.id in ids],
        cancel_children=[child for index, child in zip(cancellations, batch.cancel_children, strict=True) if index < cut],
        state=None,
    )


def _gave_up(entry: dict[str, Any], looks: Mapping[int, Container[str]], came: Collection[str]) -> bool:
    return entry["k"] == EntryKind.DONE and entry["c"] in looks and any(name in looks[entry["c"]] for name in came)


def _is_end_of_task(entry: dict[str, Any], looks: Mapping[int, Container[str]], undone: Collection[int]) -> bool:
    if entry["k"] == EntryKind.ATTEMPT:
        return entry["c"] not in undone
    return entry["k"] in _ENDS and "i" not in entry and entry["c"] not in looks and entry["c"] not in undone


def _split(entries: str) -> tuple[list[str], list[dict[str, Any]]]:
    """The entries, each as it is written and as what it says: payloads must come through to the byte."""
    texts, found, at = list[str](), list[dict[str, Any]](), 1
    while at < len(entries) - 1:
        entry, end = _READ(entries, at)
        texts.append(entries[at:end])
        found.append(entry)
        at = end + 1
    return texts, found

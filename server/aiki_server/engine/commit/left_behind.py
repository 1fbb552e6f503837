"""What a run that is cancelled without its code leaves behind, in words: the reason of its cancel, and that nothing was compensated. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

from aiki.protocol import EntryKind

MOST_NAMED = 10
_EFFECTS = ("task:", "child:")


class Left(NamedTuple):
    """What a run leaves behind: the reason of its cancel as JSON text, and the chunks of its history."""

    reason: str | None
    chunks: Sequence[str]


def because(reason: str | None) -> str:
    """The reason of a cancel (JSON text) as the end of a sentence."""
    return f": {json.loads(reason)}" if reason and reason != "null" else ""


def not_compensated(left: Left) -> str:
    """What nobody has undone, for people."""
    calls, ended = dict[int, str](), list[int]()
    for chunk in left.chunks:
        for entry in json.loads(chunk):
            if entry["k"] == EntryKind.CALL and str(entry.get("a", "")).startswith(_EFFECTS):
                calls[entry["c"]] = str(entry.get("l", entry["a"]))
            elif entry["k"] == EntryKind.DONE and entry.get("c") in calls:
                ended.append(entry["c"])
    if not ended:
        return "No task of it had ended, so there was nothing to compensate."
    named = ", ".join(calls[call] for call in ended[:MOST_NAMED]) + (
        f" and {len(ended) - MOST_NAMED} more" if len(ended) > MOST_NAMED else ""
    )
    return f"Nothing was compensated: no `finally` and no saga of it ran, and what it had done stands: {named}."

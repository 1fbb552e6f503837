"""Whether a worker's commit is well-formed: JSON texts are JSON, entries are what the protocol says, and end as the run ends.

What passes here is stored and spliced into answers as it is, so nothing that could break an answer may pass. A refusal concerns
one op; the others of its request are written.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from aiki.protocol import MAX_COUNT, MAX_JSON_DEPTH, MAX_PAYLOAD_BYTES, CommitOp, Park, Status
from aiki_server.api.http.strict_json import InvalidJsonError, check_depth, read_value
from aiki_server.api.worker.entries import TERMINAL_ENTRIES, entry_refusal, number
from aiki_server.api.worker.usual_entries import usual_entries
from aiki_server.model.instants import instant

WAIT_KINDS = frozenset({"sleep", "event", "child", "retry"})
ENTRY_LEVELS = 2
"""An entry is an object in an array; the payload limit applies within."""


def refusal(op: CommitOp) -> str | None:
    """Why this commit cannot be written; None if it can."""
    if (op.park is not None) + op.release + (op.stop is not None) + (op.finish is not None) > 1:
        return "a commit ends in one way: park, release, stop or finish"
    if op.rewound and not op.release:
        return "what is rewound is released"
    if not (0 <= op.epoch <= MAX_COUNT and 1 <= op.number <= MAX_COUNT and 0 <= op.count <= MAX_COUNT and 0 <= op.steps <= MAX_COUNT):
        return f"number counts from 1; epoch, count and steps are not negative; none is beyond {MAX_COUNT:,}"
    if op.park is not None and not _possible(op.park):
        return f"a park has seen between 0 and {MAX_COUNT:,}, and is due after 1970"
    if op.finish is not None and op.finish.inbox_seen is not None and not 0 <= op.finish.inbox_seen <= MAX_COUNT:
        return f"a finish has seen between 0 and {MAX_COUNT:,}"
    try:
        return _entries_refusal(op) or _payloads_refusal(op)
    except InvalidJsonError as error:
        return f"not acceptable JSON: {error}"


def waits_text(park: Park) -> str:
    """What the run waits for, as the public API shows it."""
    return to_json([_wait(wait) for wait in park.waits]).decode()


def _entries_refusal(op: CommitOp) -> str | None:
    if op.count == 0 and op.entries == "[]":
        return "finish needs a terminal entry" if op.finish is not None else None
    usual = usual_entries(op.entries)
    last: str | None = None
    if usual is not None and usual.size == op.count:
        ends, last = int(usual.completed), Status.COMPLETED if usual.completed else None
    else:
        entries = _value(op.entries, levels=ENTRY_LEVELS)
        if not isinstance(entries, list) or len(entries) != op.count:
            return f"entries is not an array of {op.count} entries"
        ends = 0
        for entry in entries:
            if (why := entry_refusal(entry)) is not None:
                return why
            last = TERMINAL_ENTRIES.get(entry["k"])
            ends += last is not None
    if op.finish is None:
        return "a terminal entry without finish" if ends else None
    if ends != 1 or last != op.finish.status:
        return f"finish {op.finish.status} needs exactly one terminal entry, the last, of the same meaning"
    return None


def _possible(park: Park) -> bool:
    return 0 <= park.inbox_seen <= MAX_COUNT and (park.due_at is None or park.due_at >= 0)


def _payloads_refusal(op: CommitOp) -> str | None:
    if op.state is not None and not isinstance(_value(op.state), dict):
        return "state is not an object"
    if op.finish is not None and op.finish.output is not None:
        _value(op.finish.output)
    for child in op.children:
        _value(child.input)
    return None


def _value(text: str, *, levels: int = 0) -> Any:
    if len(text) > MAX_PAYLOAD_BYTES // 4 and levels == 0 and len(text.encode()) > MAX_PAYLOAD_BYTES:
        raise InvalidJsonError(f"a payload has at most {MAX_PAYLOAD_BYTES:,} bytes")
    value, end = read_value(text, 0)
    if end != len(text):
        raise InvalidJsonError("something follows the document")
    check_depth(text, value, limit=MAX_JSON_DEPTH + levels)
    return value


def _wait(wait: dict[str, Any]) -> dict[str, Any]:
    kind, due, attempt = wait.get("kind"), wait.get("due_at"), wait.get("attempt")
    return {
        "kind": kind if isinstance(kind, str) and kind in WAIT_KINDS else "sleep",
        "name": _text(wait.get("name")),
        "child": _text(wait.get("child")),
        "attempt": attempt if number(attempt) else None,
        "due_at": instant(due) if type(due) is int else None,
    }


def _text(value: Any) -> str | None:
    return value[:255] if isinstance(value, str) else None

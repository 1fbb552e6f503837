"""What a worker may write into a history, kind by kind: the one reader of entries, as strict as those of clients' bodies.

What passes is stored as it is and spliced into answers, so every member is known by name and type, and every number fits where it
is kept. docs/protocol.md says what the members mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from aiki.protocol import ErrorInfo

TERMINAL_ENTRIES = {"completed": "completed", "failed_run": "failed", "cancelled": "cancelled"}
INT4 = 2**31 - 1
MAX_INSTANT = 2**63
"""In microseconds; what no calendar has is shown as the last instant that it has."""
MAX_ADDRESS = 1_024
MAX_LABEL = 1_024
MAX_REASON = 1_024
_HEX = frozenset("0123456789abcdef")
Check = Callable[[Any], bool]


class _Kind(NamedTuple):
    """The members of one kind of entry, and which of them it cannot do without."""

    members: Mapping[str, Check]
    needed: frozenset[str]


def number(value: Any) -> bool:
    """Whether a value is an integer that the database keeps as one, not negative."""
    return type(value) is int and 0 <= value <= INT4


def micros(value: Any) -> bool:
    """Whether a value is an instant."""
    return type(value) is int and 0 <= value < MAX_INSTANT


def run_id(value: Any) -> bool:
    """Whether a value is the id of a run."""
    return isinstance(value, str) and len(value) == 32 and _HEX.issuperset(value)


def _text(limit: int) -> Check:
    return lambda value: isinstance(value, str) and len(value) <= limit


def _error(value: Any) -> bool:
    try:
        ErrorInfo.model_validate(value, strict=True)
    except ValidationError:
        return False
    return True


def _anything(_: Any) -> bool:
    return True


def _kind(needed: Mapping[str, Check], **others: Check) -> _Kind:
    return _Kind({"k": _anything, "at": micros, **needed, **others}, frozenset(needed))


_END = _kind({}, e=_error)
KINDS: Mapping[str, _Kind] = {
    "began": _kind({}),
    "call": _kind({"c": number, "a": _text(MAX_ADDRESS)}, l=_text(MAX_LABEL), due=micros, run=run_id),
    "given_up": _kind({"c": number}),
    "done": _kind({"c": number, "v": _anything}, i=number, timeout=lambda value: isinstance(value, bool)),
    "failed": _kind({"c": number, "e": _error}, i=number),
    "attempt": _kind({"c": number, "n": number, "e": _error}, due=micros),
    "cancel": _kind({"i": number}, reason=_text(MAX_REASON)),
    "completed": _END,
    "failed_run": _END,
    "cancelled": _END,
}


def entry_refusal(entry: Any) -> str | None:
    """Why this is no entry that a worker may write; None if it is one."""
    name = entry.get("k") if isinstance(entry, dict) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        return f"a worker writes no entry of kind {name!a:.40}"
    members = kind.members
    for key, value in entry.items():
        check = members.get(key)
        if check is None:
            return f"an entry of kind {name} has a member that docs/protocol.md does not list"
        if not check(value):
            return f"the member {key} of an entry of kind {name} is not what docs/protocol.md says"
    if not kind.needed <= entry.keys():
        return f"an entry of kind {name} needs the members {', '.join(sorted(kind.needed))}"
    return None

"""What a worker may write into a history, kind by kind: the one reader of entries, as strict as those of clients' bodies.

What passes is stored as it is and spliced into answers, so every member is known by name and type, and every number fits where it
is kept. docs/internals/protocol.md says what the members mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from aiki.protocol import END_KINDS, MAX_COUNT, EntryKind, ErrorInfo, is_run_id

TERMINAL_ENTRIES = {kind.value: status for status, kind in END_KINDS.items()}
MAX_INSTANT = 2**63
"""In microseconds; what no calendar has is shown as the last instant that it has."""
MAX_ADDRESS = 1_024
MAX_LABEL = 1_024
MAX_REASON = 1_024
Check = Callable[[Any], bool]


class _Rule(NamedTuple):
    """What a member is: an integer or a text of at most `most`, or what `check` says; anything where it says nothing."""

    type: type | None
    most: int = 0
    check: Check | None = None


class _Kind(NamedTuple):
    """The members of one kind of entry, and which of them it cannot do without."""

    members: Mapping[str, _Rule]
    needed: tuple[str, ...]


def number(value: Any) -> bool:
    """Whether a value is an integer that the database keeps as one, not negative."""
    return type(value) is int and 0 <= value <= MAX_COUNT


def _run_id(value: Any) -> bool:
    return isinstance(value, str) and is_run_id(value)


def _error(value: Any) -> bool:
    try:
        ErrorInfo.model_validate(value, strict=True)
    except ValidationError:
        return False
    return True


def _text(most: int) -> _Rule:
    return _Rule(str, most)


def _kind(needed: Mapping[str, _Rule], **others: _Rule) -> _Kind:
    return _Kind({"k": _ANYTHING, "at": _MICROS, **needed, **others}, tuple(needed))


_ANYTHING = _Rule(None)
_NUMBER = _Rule(int, MAX_COUNT)
_MICROS = _Rule(int, MAX_INSTANT - 1)
_ERROR = _Rule(None, check=_error)
_END = _kind({}, e=_ERROR)
KINDS: Mapping[str, _Kind] = {
    EntryKind.BEGAN.value: _kind({}),
    EntryKind.CALL.value: _kind({"c": _NUMBER, "a": _text(MAX_ADDRESS)}, l=_text(MAX_LABEL), due=_MICROS, run=_Rule(None, check=_run_id)),
    EntryKind.CHILD_CANCEL_REQUESTED.value: _kind({"c": _NUMBER}),
    EntryKind.DONE.value: _kind(
        {"c": _NUMBER, "v": _ANYTHING}, i=_NUMBER, timeout=_Rule(None, check=lambda value: isinstance(value, bool))
    ),
    EntryKind.FAILED.value: _kind({"c": _NUMBER, "e": _ERROR}, i=_NUMBER),
    EntryKind.ATTEMPT.value: _kind({"c": _NUMBER, "n": _NUMBER, "e": _ERROR}, due=_MICROS),
    EntryKind.CANCEL.value: _kind({"i": _NUMBER}, reason=_text(MAX_REASON)),
    EntryKind.COMPLETED.value: _END,
    EntryKind.FAILED_RUN.value: _END,
    EntryKind.CANCELLED.value: _END,
}


def entry_refusal(entry: Any) -> str | None:
    """Why this is no entry that a worker may write; None if it is one."""
    name = entry.get("k") if isinstance(entry, dict) else None
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        return f"a worker writes no entry of kind {name!a:.40}"
    # Each step of each run comes by here: of the usual members, numbers and texts, none is asked by a call.
    members = kind.members
    for key, value in entry.items():
        rule = members.get(key)
        if rule is None:
            return f"an entry of kind {name} has a member that docs/internals/protocol.md does not list"
        wanted, most, check = rule
        if wanted is int:
            right = type(value) is int and 0 <= value <= most
        elif wanted is str:
            right = type(value) is str and len(value) <= most
        else:
            right = check is None or check(value)
        if not right:
            return f"the member {key} of an entry of kind {name} is not what docs/internals/protocol.md says"
    for key in kind.needed:
        if key not in entry:
            return f"an entry of kind {name} needs the members {', '.join(sorted(kind.needed))}"
    return None

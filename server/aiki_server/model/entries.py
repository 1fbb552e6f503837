"""The entries of a run's history that the server writes, as JSON text, and how they join a chunk of the worker's.

Pure. Entries of the worker are opaque here; docs/internals/protocol.md lists all kinds.
"""

from __future__ import annotations

from pydantic_core import to_json

from aiki.protocol import END_KINDS, EntryKind, QueuedBy, Status

_QUEUED = f'{{"k":"{EntryKind.QUEUED}","at":'
_PARKED = f'{{"k":"{EntryKind.PARKED}","at":'
_PAUSED = f'{{"k":"{EntryKind.PAUSED}","at":'


def queued(at: int, by: QueuedBy) -> str:
    """The run may go on; `by` says what woke it."""
    return f'{_QUEUED}{at},"by":"{by}"}}'


def parked(at: int, waits: str) -> str:
    """The run waits; `waits` is JSON text."""
    return f'{_PARKED}{at},"on":{waits}}}'


def paused(at: int, error: str | None) -> str:
    """The run rests; `error` is the JSON text of what stopped it, if anything did."""
    return f"{_PAUSED}{at}}}" if error is None else f'{_PAUSED}{at},"e":{error}}}'


def ended(status: Status, at: int, error: str) -> str:
    """The run ended in this status without its code having a say."""
    return f'{{"k":"{END_KINDS[status]}","at":{at},"e":{error}}}'


def error(kind: str, message: str) -> str:
    """An ErrorInfo that the server makes, as JSON text."""
    return to_json({"type": kind, "message": message, "stack": None, "retryable": False}).decode()


def joined(entries: str, count: int, more: list[str]) -> str:
    """The array `entries` of `count` entries, with `more` behind."""
    if not more:
        return entries
    return array(more) if count == 0 else f"{entries.rstrip()[:-1]},{array(more)[1:]}"


def array(written: list[str]) -> str:
    """These entries as JSON text."""
    return f"[{','.join(written)}]"


AROUND_THE_INSTANT = (f"[{_QUEUED}", f',"by":"{QueuedBy.TIMER}"}}]')
"""What stands before and behind the instant in the array of the one entry that a timer leaves; the database reads its clock in between."""

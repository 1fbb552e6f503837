"""The entries of a run's history that the server writes, as JSON text, and how they join a chunk of the worker's.

Pure. Entries of the worker are opaque here; docs/internals/protocol.md lists all kinds.
"""

from __future__ import annotations

from pydantic_core import to_json


def queued(at: int, by: str) -> str:
    """The run may go on; `by` says what woke it."""
    return f'{{"k":"queued","at":{at},"by":"{by}"}}'


def parked(at: int, waits: str) -> str:
    """The run waits; `waits` is JSON text."""
    return f'{{"k":"parked","at":{at},"on":{waits}}}'


def paused(at: int, error: str | None) -> str:
    """The run rests; `error` is the JSON text of what stopped it, if anything did."""
    return f'{{"k":"paused","at":{at}}}' if error is None else f'{{"k":"paused","at":{at},"e":{error}}}'


def ended(kind: str, at: int, error: str) -> str:
    """The run ended without its code having a say: `cancelled` or `failed_run`."""
    return f'{{"k":"{kind}","at":{at},"e":{error}}}'


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

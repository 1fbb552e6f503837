"""The message of a divergence: which call, what was recorded instead, and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from aiki.errors import error_named
from aiki.execution.calls.call import Call
from aiki.execution.journal import Reservation
from aiki.protocol import ErrorInfo


def divergence(name: str, *, left: Sequence[Reservation], held: Sequence[Call]) -> ErrorInfo:
    """The error with which a run stops whose history holds `left`, which no code asked for, while the code asks for `held`."""
    found, recorded = _pair(left, held)
    where = f"diverged at {found.label()}" if found is not None else "diverged: it waits for nothing"
    removed = recorded.address.rpartition(":")[0].removeprefix("task:").rstrip(":")
    version = name.rpartition(" ")[2]
    message = (
        f"{name} {where}: recorded {recorded.label}. "
        f"Publish {_next(version)}, or restore the recorded call; "
        f'if it was removed on purpose, say so: .v("{version}", removed=["{removed}"]).'
    )
    return error_named("Divergence", message, retryable=True)


def _pair(left: Sequence[Reservation], held: Sequence[Call]) -> tuple[Call | None, Reservation]:
    """A held call and a record of the same name, if there are such: that is what was changed."""
    for call in held:
        for recorded in left:
            if call.address.rsplit(":", 1)[0] == recorded.address.rsplit(":", 1)[0]:
                return call, recorded
    return (held[0] if held else None), left[0]


def _next(version: str) -> str:
    """The version that follows: the last number raised by one."""
    head, dot, last = version.rpartition(".")
    return f"{head}{dot}{int(last) + 1}" if last.isdecimal() else "a new version"

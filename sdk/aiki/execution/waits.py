"""What an idle run waits for, for the server (what wakes it) and for people (what it says)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from aiki.execution.arrivals import Arrivals
from aiki.execution.call import Call, ChildCall, LoopTimer, Sleep, TaskCall, Wait
from aiki.execution.outcome import Waits

MAX_LISTED: Final = 100


def waits_for(calls: Iterable[Call], *, arrivals: Arrivals, now: int) -> Waits | None:
    """What the open calls wait for; None while a task runs or may start."""
    on: list[dict[str, Any]] = []
    retries: list[int] = []
    children = False
    for call in calls:
        if isinstance(call, TaskCall):
            if call.not_before is None or call.not_before <= now:
                return None
            retries.append(call.not_before)
        children = children or isinstance(call, ChildCall)
        if len(on) < MAX_LISTED:
            on.append(_said(call))
    due = min((due for due in (arrivals.next_due(), *retries) if due is not None), default=None)
    return Waits(due, arrivals.event_names(), children, on)


def _said(call: Call) -> dict[str, Any]:
    match call:
        case TaskCall():
            return {"kind": "retry", "name": call.task.name, "attempt": call.attempt + 1, "due_at": call.not_before}
        case Wait():
            return {"kind": "event", "name": call.event, "due_at": call.due}
        case ChildCall():
            return {"kind": "child", "name": call.start.workflow, "child": call.id}
        case Sleep() | LoopTimer():
            return {"kind": "sleep", "due_at": call.due}
        case _:
            raise AssertionError(call)

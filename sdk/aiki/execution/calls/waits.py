"""What an idle run waits for, for the server (what wakes it) and for people (what it says)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from aiki.execution.calls.call import Call, ChildCall, LoopTimer, Sleep, TaskCall, Wait
from aiki.execution.calls.inbox import Inbox
from aiki.execution.outcome import WaitConditions

if TYPE_CHECKING:
    from aiki.execution.calls.calls import Calls

MAX_LISTED: Final = 100


def waits_for(calls: Calls, *, inbox: Inbox, now: int) -> WaitConditions | None:
    """What the open calls wait for; None while a task runs or may start. It looks at no more calls than it lists."""
    retry = calls.delayed.first()
    if len(calls.delayed.calls) < calls.tasks or (retry is not None and retry <= now):
        return None
    due = min((due for due in (inbox.next_due(), retry) if due is not None), default=None)
    return WaitConditions(due, inbox.event_names(), calls.children > 0, [_said(call) for call in islice(calls.open.values(), MAX_LISTED)])


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

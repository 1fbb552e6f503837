"""Runs and timelines as Rich renderables; decides how things look and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aiki.cli.timeline import Activation, Attempt, Call, CallState, Timeline
from aiki.cli.words import cut, duration, payload, printable
from aiki.protocol import RunInfo, RunSummary, Status, UndeliveredEvent, WaitInfo

STATUS_STYLE = {
    Status.SCHEDULED: "blue",
    Status.QUEUED: "cyan",
    Status.RUNNING: "bold cyan",
    Status.WAITING: "blue",
    Status.PAUSED: "yellow",
    Status.COMPLETED: "green",
    Status.FAILED: "bold red",
    Status.CANCELLED: "magenta",
}
_MARKS = {
    CallState.OPEN: ("…", "cyan"),
    CallState.DONE: ("✔", "green"),
    CallState.TIMED_OUT: ("⌛", "yellow"),
    CallState.FAILED: ("✘", "red"),
}


def runs_table(runs: Sequence[RunSummary], *, now: datetime) -> Table:
    """A listing, newest first."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("run", "workflow", "status", "steps", "age", "ref"):
        table.add_column(column, no_wrap=column in ("run", "status", "age"), justify="right" if column == "steps" else "left")
    for run in runs:
        workflow = f"{run.workflow} {run.version}" if run.version else run.workflow
        status = Text(run.status.value, style=STATUS_STYLE[run.status])
        if run.status is Status.WAITING and run.due_at is not None:
            status.append(f" {_until(run.due_at, now)}", style="dim")
        table.add_row(run.id, workflow, status, str(run.steps), duration(now - run.created_at), _own_ref(run.ref))
    return table


def run_view(run: RunInfo, timeline: Timeline, undelivered: Sequence[UndeliveredEvent], *, now: datetime) -> RenderableType:
    """Everything that `aiki show` says about one run."""
    parts: list[RenderableType] = [_head(run, now=now), Text()]
    if timeline.calls:
        parts += [_calls(timeline, created_at=run.created_at, now=now), Text()]
    if timeline.activations:
        parts += [_activations(timeline.activations), Text()]
    if undelivered:
        parts += [_undelivered(undelivered), Text()]
    parts.append(_end(run, now=now))
    return Group(*parts)


def _head(run: RunInfo, *, now: datetime) -> Text:
    title = Text()
    title.append(run.workflow, style="bold").append(f" {run.version}" if run.version else "")
    title.append("  ").append(run.status.value, style=STATUS_STYLE[run.status])
    title.append(f"  {duration((run.finished_at or now) - run.created_at)}", style="dim")
    title.append(f"\n{run.id}", style="dim")
    if ref := _own_ref(run.ref):
        title.append(f"  ref:{ref}", style="dim")
    if run.parent:
        title.append(f"  child of {run.parent}", style="dim")
    title.append(f"\ninput {payload(run.input, limit=100) or 'null'}", style="dim")
    if run.state:
        title.append(f"\nstate {payload(run.state, limit=100)}", style="dim")
    return title


def _calls(timeline: Timeline, *, created_at: datetime, now: datetime) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("call", ratio=3, overflow="fold")
    table.add_column("at", no_wrap=True, justify="right")
    table.add_column("took", no_wrap=True, justify="right")
    table.add_column("recorded by", no_wrap=True)
    table.add_column("result", ratio=2, overflow="ellipsis", no_wrap=True)
    for call in timeline.calls:
        for failure in call.failures:
            table.add_row(*_failure_row(call, failure, created_at=created_at))
        table.add_row(*_call_row(call, created_at=created_at, now=now))
    return table


def _call_row(call: Call, *, created_at: datetime, now: datetime) -> Iterator[RenderableType]:
    mark, style = _MARKS[call.state]
    yield Text(mark, style=style)
    label = Text(call.label)
    if call.attempts is not None and call.attempts > 1:
        label.append(f"  attempt {call.attempts}", style="yellow")
    yield label
    yield Text(f"+{duration(call.began_at - created_at)}", style="dim")
    yield duration(call.took) if call.took is not None else Text(_pending(call, now=now), style="cyan")
    yield Text(_writer(call.ended_epoch, call.ended_by), style="dim")
    yield Text(cut(call.detail or "", limit=60), style="red" if call.state is CallState.FAILED else "")


def _failure_row(call: Call, failure: Attempt, *, created_at: datetime) -> Iterator[RenderableType]:
    yield Text("✘", style="yellow")
    yield Text(f"{call.label}  attempt {failure.number}", style="yellow")
    yield Text(f"+{duration(failure.at - created_at)}", style="dim")
    yield Text(f"next {duration(failure.next_at - failure.at)}" if failure.next_at else "", style="dim")
    yield Text(_writer(failure.epoch, failure.worker), style="dim")
    yield Text(cut(failure.error, limit=60), style="yellow")


def _activations(activations: Sequence[Activation]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("epoch", "worker", "replayed", "ran", "then"):
        table.add_column(column, justify="right" if column in ("epoch", "replayed") else "left", overflow="fold")
    for activation in activations:
        ran = ", ".join(cut(name, limit=40) for name in activation.ran) or "–"
        lost = activation.ended == "worker lost"
        table.add_row(
            str(activation.epoch),
            activation.worker or "server",
            str(activation.replayed),
            ran,
            Text(activation.ended, style="red" if lost else ""),
        )
    return table


def _undelivered(events: Sequence[UndeliveredEvent]) -> Text:
    text = Text("events that no wait has taken yet:", style="dim")
    for event in events:
        text.append(f"\n  {event.seq}  {event.name}  {payload(event.payload)}")
    return text


def _end(run: RunInfo, *, now: datetime) -> Text:
    if run.status is Status.COMPLETED:
        return Text(f"→ {payload(run.output, limit=200) or 'null'}", style="green")
    if run.error is not None:
        end = Text(printable(f"{run.error.type}: {run.error.message}"), style="red")
        return end.append(f"\n{printable(run.error.stack)}", style="dim") if run.error.stack else end
    if run.waits:
        return Text("waits for " + ", ".join(_wait(wait, now=now) for wait in run.waits), style="blue")
    return Text(run.notice or "", style="yellow")


def _wait(wait: WaitInfo, *, now: datetime) -> str:
    what = {
        "sleep": "a sleep",
        "event": f"event {wait.name}",
        "child": f"child {wait.child}",
        "retry": f"attempt {wait.attempt} of {wait.name}",
    }[wait.kind]
    return f"{what} ({_until(wait.due_at, now)})" if wait.due_at else what


def _pending(call: Call, *, now: datetime) -> str:
    return _until(call.due_at, now) if call.due_at else f"{duration(now - call.began_at)} …"


def _until(due_at: datetime, now: datetime) -> str:
    left = due_at - now
    return f"{duration(left)} left" if left > timedelta() else "due"


def _own_ref(ref: str | None) -> str:
    """The ref that a person gave; the client makes one where none was given."""
    return ref if ref and not ref.startswith("auto:") else ""


def _writer(epoch: int | None, worker: str | None) -> str:
    return "" if epoch is None else f"{worker or 'server'} · {epoch}"

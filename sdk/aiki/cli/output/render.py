"""Runs and timelines as Rich renderables; decides how things look and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from aiki.cli.output.format import cut, duration, payload
from aiki.cli.output.terminal import one_line, printable
from aiki.cli.output.timeline import OpenCall, StepKind, Timeline, TimelineActivation
from aiki.errors import help_link
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
    StepKind.DONE: ("✔", "green"),
    StepKind.TIMED_OUT: ("⌛", "yellow"),
    StepKind.RETRIED: ("✘", "yellow"),
    StepKind.FAILED: ("✘", "red"),
    StepKind.CANCEL_REQUESTED: ("■", "yellow"),
    StepKind.CANCEL: ("■", "magenta"),
}
WIDE = 140
"""From so many columns on there is room for a second id in a row."""
WHOLE = frozenset({"run", "status", "age", "parent"})
_MANY = 4
"""From so many replayed calls on they are counted, not listed."""


@dataclass(frozen=True, slots=True)
class Tail:
    """As much of the end of a view as the terminal has lines: a live display cannot go back to what has left it at the top."""

    view: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in console.render_lines(self.view, options, pad=False)[-(console.height - 1) :]:
            yield from line
            yield Segment.line()


def runs_table(runs: Sequence[RunSummary], *, now: datetime, width: int | None) -> Table:
    """A listing, newest first, for a terminal of this width; without one nothing is cut. Pools and parents are shown where there is room."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    columns = ["run", "workflow", "status", "age", "ref"]
    if width is None or width >= WIDE:
        columns[4:4] = ["pool"] if any(run.pool not in (None, "default") for run in runs) else []
        columns += ["parent"] if any(run.parent for run in runs) else []
    rows = [_row(run, now=now) for run in runs]
    for column in columns:
        # Ids are there to be copied, a state is what people look for: they are never cut. Names share what is left.
        texts = [row[column].plain.partition(" ")[0] if column == "status" else row[column].plain for row in rows]
        least = max(map(len, texts), default=0) if column in WHOLE else len(column)
        table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=max(least, len(column)))
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table


def _row(run: RunSummary, *, now: datetime) -> dict[str, Text]:
    status = Text(run.status.value, style=STATUS_STYLE[run.status])
    if run.status is Status.WAITING and run.due_at is not None:
        status.append(f" {_until(run.due_at, now)}", style="dim")
    return {
        "run": Text(one_line(run.id)),
        "workflow": Text(one_line(f"{run.workflow} {run.version}" if run.version else run.workflow)),
        "status": status,
        "age": Text(duration(now - run.created_at)),
        "pool": Text(one_line(run.pool or "")),
        "ref": Text(_own_ref(run.ref)),
        "parent": Text(one_line(run.parent or "")),
    }


def run_view(
    run: RunInfo, timeline: Timeline, undelivered: Sequence[UndeliveredEvent], *, now: datetime, width: int | None
) -> RenderableType:
    """Everything that `aiki show` says about one run, for a terminal of this width; without one nothing is made to fit."""
    screen = width is not None
    parts: list[RenderableType] = [_head(run, now=now), Text()]
    for activation in timeline.activations:
        parts += [_activation(activation, created_at=run.created_at), _steps(activation, screen=screen)]
        if activation.ended not in (None, run.status.value):
            parts.append(_ending(activation, created_at=run.created_at))
    if timeline.open:
        parts += [Text("given up" if run.status.terminal else "open", style="bold"), _open(timeline.open, now=now, screen=screen)]
    if undelivered:
        parts += [Text("events that no wait has taken yet", style="bold"), _undelivered(undelivered, screen=screen)]
    end = _end(run, now=now)
    return Group(*parts, Text(), end) if end else Group(*parts)


def _head(run: RunInfo, *, now: datetime) -> Text:
    title = Text()
    title.append(one_line(run.workflow), style="bold").append(one_line(f" {run.version}") if run.version else "")
    title.append("  ").append(run.status.value, style=STATUS_STYLE[run.status])
    title.append(f"  {duration((run.finished_at or now) - run.created_at)}", style="dim")
    title.append(f"\n{one_line(run.id)}", style="dim")
    if ref := _own_ref(run.ref):
        title.append(f"  ref:{ref}", style="dim")
    if run.parent:
        title.append(f"  child of {one_line(run.parent)}", style="dim")
    if run.pool not in (None, "default"):
        title.append(f"  pool {one_line(run.pool)}", style="dim")
    title.append(f"\ninput {payload(run.input, limit=100) or 'null'}", style="dim")
    if run.state:
        title.append(f"\nstate {payload(run.state, limit=100)}", style="dim")
    return title


def _activation(activation: TimelineActivation, *, created_at: datetime) -> Text:
    text = Text(f"epoch {activation.epoch}", style="bold")
    text.append(f"  +{duration(activation.began_at - created_at)}  {one_line(activation.worker or 'server')}", style="not bold dim")
    if activation.replayed:
        names = ", ".join(_name(label) for label in activation.replayed)
        what = names if len(activation.replayed) < _MANY else f"{len(activation.replayed)} calls"
        text.append(f"  replayed {what}", style="not bold cyan")
    return text


def _ending(activation: TimelineActivation, *, created_at: datetime) -> Text:
    lost = activation.ended == "worker lost"
    at = f" +{duration(activation.ended_at - created_at)}" if activation.ended_at else ""
    return Text(f"     {activation.ended}{at}", style="red" if lost else "dim")


def _steps(activation: TimelineActivation, *, screen: bool) -> Table:
    table = _rows(screen=screen)
    for step in activation.steps:
        mark, style = _MARKS[step.kind]
        label = Text(cut(step.label, limit=60)) if step.attempt is None else Text(_attempt(step.label, step.attempt))
        again = f"again in {duration(step.next_in)}: " if step.next_in is not None else ""
        detail = Text(again + cut(step.detail, limit=80), style=style if step.kind in (StepKind.FAILED, StepKind.RETRIED) else "dim")
        table.add_row(Text(mark, style=style), label, duration(step.took), detail)
    return table


def _open(calls: Sequence[OpenCall], *, now: datetime, screen: bool) -> Table:
    table = _rows(screen=screen)
    for call in calls:
        label = _attempt(call.label, call.failures + 1) if call.failures else cut(call.label, limit=60)
        since = f"for {duration(now - call.began_at)}"
        table.add_row(
            Text("…", style="cyan"),
            Text(label),
            "",
            Text(_until(call.due_at, now) if call.due_at else since, style="cyan"),
        )
    return table


def _attempt(label: str, number: int) -> str:
    return f"{_name(label)}, attempt {number}"


def _name(label: str) -> str:
    """A call without its arguments."""
    return one_line(label.partition("(")[0])


def _undelivered(events: Sequence[UndeliveredEvent], *, screen: bool) -> Table:
    table = _rows(screen=screen)
    for event in events:
        table.add_row(str(event.seq), Text(one_line(event.name)), "", Text(payload(event.payload)))
    return table


def _rows(*, screen: bool) -> Table:
    """Mark, call, duration, detail: as wide as the screen, cut rather than wrapped."""
    table = Table.grid(padding=(0, 2, 0, 0), expand=screen)
    table.add_column(width=3, justify="right")
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(width=11, justify="right", no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    return table


def _end(run: RunInfo, *, now: datetime) -> Text:
    if run.status is Status.COMPLETED:
        return Text(f"→ {payload(run.output, limit=200) or 'null'}", style="green")
    if run.error is not None:
        end = Text(_barred(f"{one_line(run.error.type)}: {run.error.message}"), style="red")
        if run.error.stack:
            end.append(f"\n| {_barred(run.error.stack)}", style="dim")
        return end.append(f"\nSee {link}", style="dim") if (link := help_link(run.error)) else end
    if run.waits:
        return Text("waits for " + ", ".join(_wait(wait, now=now) for wait in run.waits), style="blue")
    return Text(printable(run.notice or ""), style="yellow")


def _wait(wait: WaitInfo, *, now: datetime) -> str:
    what = {
        "sleep": "a sleep",
        "event": f"event {wait.name}",
        "child": f"child {wait.child}",
        "retry": f"attempt {wait.attempt} of {wait.name}",
    }[wait.kind]
    return one_line(f"{what} ({_until(wait.due_at, now)})" if wait.due_at else what)


def _until(due_at: datetime, now: datetime) -> str:
    left = due_at - now
    return f"{duration(left)} left" if left > timedelta() else "due"


def _own_ref(ref: str | None) -> str:
    """The ref that a person gave; the client makes one where none was given."""
    return one_line(ref) if ref and not ref.startswith("auto:") else ""


def _barred(text: str) -> str:
    """The text with a bar before each further line: none of it stands where a line of ours would."""
    return "\n| ".join(printable(text).split("\n"))

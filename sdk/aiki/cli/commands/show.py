"""`aiki show RUN`: the timeline of a run, once or live."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.live import Live

from aiki.cli.exit_codes import Exit
from aiki.cli.options import Json, RunName, Token, Url
from aiki.cli.output.format import document
from aiki.cli.output.render import Tail, run_view
from aiki.cli.output.terminal import say
from aiki.cli.output.timeline import fold
from aiki.cli.session import Session, find_run
from aiki.client import Client, RunHandle
from aiki.protocol import DEFAULT_URL, History, HistoryEntry, RunInfo, Status, UndeliveredEvent

REFRESH_SECONDS = 0.5


def show(
    run: RunName,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Stay, and follow the run to its end.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Show what a run did: each call, where it ran, how often, how long, and what was replayed.

    With --watch the exit code is 1 if the run ends failed or cancelled. With --json: one object with `run` and `history`;
    with --watch --json: one line for each entry of the history as it comes, then one for the run.
    """
    session = Session(url, token, as_json)

    async def command(client: Client) -> Exit:
        handle = await find_run(client, run)
        if watch:
            info = await (_follow_json(handle) if as_json else _follow(handle, session))
            return Exit.OK if info.status is Status.COMPLETED else Exit.RUN_FAILED
        entries: list[HistoryEntry] = []
        info, undelivered = await _read(handle, entries)
        if as_json:
            history = History(entries=entries, undelivered=undelivered)
            say(f'{{"run": {document(info)}, "history": {document(history)}}}')
        else:
            console = session.out
            console.print(_view(info, entries, undelivered, console))
        return Exit.OK

    session.run(command)


async def _follow(handle: RunHandle[Any], session: Session) -> RunInfo:
    entries: list[HistoryEntry] = []
    view: RenderableType | None = None
    console = session.out
    try:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                info, undelivered = await _read(handle, entries)
                view = _view(info, entries, undelivered, console)
                live.update(Tail(view), refresh=True)
                if info.status.terminal:
                    return info
                await asyncio.sleep(REFRESH_SECONDS)
    finally:
        if view is not None:
            console.print(view)


async def _follow_json(handle: RunHandle[Any]) -> RunInfo:
    entries: list[HistoryEntry] = []
    while True:
        known = len(entries)
        info, _ = await _read(handle, entries)
        for entry in entries[known:]:
            say(document(entry))
        if info.status.terminal:
            say(document(info))
            return info
        await asyncio.sleep(REFRESH_SECONDS)


async def _read(handle: RunHandle[Any], entries: list[HistoryEntry]) -> tuple[RunInfo, list[UndeliveredEvent]]:
    """The run as it is; what is new of its history is added to `entries`."""
    info = await handle.refresh()  # before the history, so that a terminal run is shown with all of it
    while True:
        page = await handle.history(after=entries[-1].seq if entries else 0)
        entries += page.entries
        if page.next is None:
            return info, page.undelivered


def _view(info: RunInfo, entries: list[HistoryEntry], undelivered: list[UndeliveredEvent], console: Console) -> RenderableType:
    timeline = fold(entries, created_at=info.created_at)
    return run_view(info, timeline, undelivered, now=datetime.now(UTC), width=console.width if console.is_terminal else None)

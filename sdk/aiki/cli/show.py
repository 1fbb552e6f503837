"""`aiki show RUN`: the timeline of a run, once or live."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.live import Live

from aiki.cli.exits import Exit
from aiki.cli.options import DEFAULT_URL, Json, RunName, Token, Url
from aiki.cli.render import run_view
from aiki.cli.session import Session, find_run
from aiki.cli.timeline import fold
from aiki.client import Client, RunHandle
from aiki.protocol import History, RunInfo, Status

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
            info = await (_follow_json(handle, session) if as_json else _follow(handle, session))
            return Exit.OK if info.status is Status.COMPLETED else Exit.RUN_FAILED
        info, history = await _read(handle)
        if as_json:
            typer.echo(f'{{"run": {info.model_dump_json()}, "history": {history.model_dump_json()}}}')
        else:
            session.out.print(_view(info, history))
        return Exit.OK

    session.run(command)


async def _follow(handle: RunHandle[Any], session: Session) -> RunInfo:
    with Live(console=session.out, auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            info, history = await _read(handle)
            live.update(_view(info, history), refresh=True)
            if info.status.terminal:
                return info
            await asyncio.sleep(REFRESH_SECONDS)


async def _follow_json(handle: RunHandle[Any], session: Session) -> RunInfo:
    printed = 0
    while True:
        info, history = await _read(handle, after=printed)
        for entry in history.entries:
            session.out.print(entry.model_dump_json(), markup=False)
        printed = max([printed, *(entry.seq for entry in history.entries)])
        if info.status.terminal:
            session.out.print(info.model_dump_json(), markup=False)
            return info
        await asyncio.sleep(REFRESH_SECONDS)


async def _read(handle: RunHandle[Any], *, after: int = 0) -> tuple[RunInfo, History]:
    info = await handle.refresh()  # before the history, so that a terminal run is shown with all of it
    return info, await handle.history(after=after)


def _view(info: RunInfo, history: History) -> RenderableType:
    timeline = fold(history.entries, created_at=info.created_at)
    return run_view(info, timeline, history.undelivered, now=datetime.now(UTC))

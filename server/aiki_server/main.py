"""The process: `python -m aiki_server [serve] [--insecure]`, `python -m aiki_server migrate`, `python -m aiki_server restored`.

uvicorn with uvloop and httptools; no access log, since one line a request would cost more than most requests.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import resource
import socket
import sys
from types import FrameType

import uvicorn

from aiki.protocol import GOOD_TOKEN_LENGTH, explained_at
from aiki_server import logs
from aiki_server.api.edge.gateway import Edge
from aiki_server.api.http.connection import Connection
from aiki_server.app import create_app
from aiki_server.gc_tuning import collect_rarely
from aiki_server.settings import Settings, SettingsError, database_url, log_level
from aiki_server.store import migrate
from aiki_server.store.connections import OldDatabaseError
from aiki_server.store.migrate import NewerDatabaseError

log = logging.getLogger(__name__)

GRACE_SECONDS = 10
"""What requests get to end in when the process is asked to; long polls are cut short."""


MOST_DESCRIPTORS = 65_536
SPARE_DESCRIPTORS = 128
"""For the database, Redis, logs, and what is just being closed."""
KEEP_ALIVE_SECONDS = 75
"""Longer than clients and proxies keep idle connections: it is for them to close one, or a request would meet its end."""


TICKS_A_SECOND = 10
"""How often uvicorn calls `on_tick`."""


class ServerLoop(uvicorn.Server):
    """Tells the application of the signal at once, so that long polls do not hold up the end; ends `shutdown_delay_seconds` later.

    In that time each answer says that its connection is closed: a request on one that is kept alive must not meet its end.
    """

    def __init__(self, config: uvicorn.Config, edge: Edge, *, shutdown_delay_seconds: float) -> None:
        super().__init__(config)
        self._drain = edge.drain
        self._doors = edge.doors
        self._shutdown_delay_seconds = shutdown_delay_seconds
        self._loop: asyncio.AbstractEventLoop | None = None

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().serve(sockets)

    async def on_tick(self, counter: int) -> bool:
        if counter % TICKS_A_SECOND == 0:
            self._doors.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        seconds, self._shutdown_delay_seconds = self._shutdown_delay_seconds, 0.0  # a second signal ends it now
        if self._loop is None or not seconds:
            super().handle_exit(sig, frame)
        else:
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, super().handle_exit, sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._drain)  # a signal handler may run between any two steps of the loop


def serve(settings: Settings, *, unix_socket: str | None = None) -> None:
    """Serve until a signal says to stop. `unix_socket` is the path of a socket to listen on instead of host and port."""
    app = create_app(settings)
    app.doors.most = min(app.doors.most, _descriptors() - SPARE_DESCRIPTORS)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        uds=unix_socket,
        loop="uvloop",
        http=Connection,
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        server_header=False,
        proxy_headers=False,
        date_header=False,
    )
    log.info("server starting", extra={"host": settings.host, "port": settings.port, "insecure": not settings.tokens})
    for namespace in settings.weak:
        log.warning(
            "a token is short", extra={"namespace": namespace, "fewer_than": GOOD_TOKEN_LENGTH, "make_one_with": "openssl rand -hex 32"}
        )
    collect_rarely()
    server = ServerLoop(config, app, shutdown_delay_seconds=settings.shutdown_delay_seconds)
    server.run()
    if not server.started:
        sys.exit(3)


def _descriptors() -> int:
    """How many files and sockets this process may have open; as many as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="aiki_server", description="The Aiki server. Its settings come from AIKI_... variables.")
    parser.add_argument(
        "command",
        nargs="?",
        choices=["serve", "migrate", "restored"],
        default="serve",
        help="serve (the default); migrate the database; or say that it was restored from a backup",
    )
    parser.add_argument("--insecure", action="store_true", help="serve without tokens, on loopback only")
    chosen = parser.parse_args(arguments)
    try:
        logs.configure(log_level(os.environ))
        if chosen.command == "migrate":
            return _migrate()
        if chosen.command == "restored":
            return _restored()
        serve(Settings.from_environment(insecure=chosen.insecure))
    except (SettingsError, OldDatabaseError, NewerDatabaseError) as error:
        print(f"aiki_server: {error}\nSee {explained_at(type(error).__name__)}", file=sys.stderr)  # noqa: T201  for whoever typed the command
        return 2
    return 0


def _restored() -> int:
    asyncio.run(migrate.restored(database_url(os.environ)))
    return 0


def _migrate() -> int:
    url = database_url(os.environ)
    applied = asyncio.run(migrate.migrate(url))
    log.info("migrated", extra={"applied": applied})
    return 0

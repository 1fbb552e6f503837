"""The connections to Postgres, and what must be true of it before the server starts.

Every connection plans for the general case once and keeps the plan: the arrays of a batch are short or long, never worth a
plan of their own. Connections come back clean (no session state is ever set), so none is reset when it is given back.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from aiki_server.model.failures import LOST
from aiki_server.store.incarnations import Incarnations

Db: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"


OLDEST = 14
"""The first version of Postgres that is supported."""
STATEMENT_SECONDS = 30
MOST_KEPT = 6
CONNECT_SECONDS = 3
"""A first packet to a pod that has just vanished is answered by nobody; the next try finds its successor."""
SILENT_SECONDS = 5
"""A Postgres whose host has vanished answers nothing, not even a refusal: a connection that is silent for so long is lost."""


class UnsafeDatabaseError(Exception):
    """Postgres is configured to lose what it acknowledged."""


class OldDatabaseError(Exception):
    """Postgres is older than what the server's statements need."""


class _Connection(asyncpg.Connection):  # not subscriptable at run time
    def get_reset_query(self) -> str:
        return ""  # saves a round trip per use


class Pool:
    """Connections to lend. After one was lost none of the others is trusted: they may lead to a server that is no primary any more.

    A few stay out between uses, for taking one from asyncpg's pool and giving it back costs more than a statement.
    """

    def __init__(self, connections: asyncpg.Pool[asyncpg.Record], told: list[Callable[[], None]]) -> None:
        self._connections = connections
        self._told = told
        self.others: list[Pool] = []
        """Pools to the same server: what one has lost, all have."""
        self._kept: list[PoolConnectionProxy[asyncpg.Record]] = []
        self._waiting = 0
        self.lost = 0
        """How often a connection ended that was in use."""

    def acquire(self) -> Loan:
        """A connection for the length of the block."""
        return Loan(self)

    async def take(self) -> PoolConnectionProxy[asyncpg.Record]:
        """A connection, to be given back by `keep` or `release`."""
        while self._kept:
            connection = self._kept.pop()
            if _is_open(connection):
                return connection
            await self.release(connection)
        self._waiting += 1
        try:
            return await self._connections.acquire()
        finally:
            self._waiting -= 1

    async def keep(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        """Take back a connection on which nothing is under way; whoever waits for one waits at asyncpg's pool."""
        if not self._waiting and len(self._kept) < MOST_KEPT and _is_open(connection):
            self._kept.append(connection)
        else:
            await self.release(connection)

    async def release(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        """Take back a connection in whatever state it is."""
        await self._connections.release(connection)

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever a connection has ended: the next one may lead to another server, or to one that was restored."""
        self._told.append(tell)

    async def distrust(self) -> None:
        """Use none of the present connections again, nor those of the other pools to the same server."""
        self.lost += 1
        for tell in self._told:
            tell()
        for pool in (self, *self.others):
            await pool.expire()

    async def expire(self) -> None:
        """Open new connections from now on."""
        await self._connections.expire_connections()
        kept, self._kept = self._kept, []
        for connection in kept:
            await self.release(connection)

    @property
    def size(self) -> int:
        """How many connections are open."""
        return self._connections.get_size()

    @property
    def waiting(self) -> int:
        """How many wait for a connection."""
        return self._waiting

    def close(self) -> None:
        """Drop all connections; what is under way is rolled back."""
        self._connections.terminate()


class Loan:
    """What `Pool.acquire` gives: an asynchronous context manager, made for one use."""

    __slots__ = ("_connection", "_pool")

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __aenter__(self) -> PoolConnectionProxy[asyncpg.Record]:
        try:
            self._connection = await self._pool.take()
        except LOST:
            await self._pool.distrust()
            raise
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            await self._pool.keep(self._connection)
            return
        # A statement that took too long says nothing of its connection, or of the others.
        lost = isinstance(error, LOST) and not isinstance(error, asyncpg.QueryCanceledError)
        if lost:
            self._connection.terminate()
        await self._pool.release(self._connection)
        if lost:
            await self._pool.distrust()


@asynccontextmanager
async def alone(url: str) -> AsyncIterator[Db]:
    """A connection for the length of the block, for what comes before there is a pool."""
    connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS)
    try:
        yield connection
    finally:
        await connection.close()


async def connect(
    url: str, *, size: int, statement_seconds: int = STATEMENT_SECONDS, pages: bool = False, incarnations: Incarnations | None = None
) -> Pool:
    """A pool of up to `size` connections, on which no statement takes longer than `statement_seconds`.

    Each is looked at before it is used, whether it leads to data that were restored. With `pages` it is for statements that read the first rows
    of a long range of an index: none of them reads all of the range first, to sort it.
    """
    known = incarnations or Incarnations()
    told: list[Callable[[], None]] = []

    def ended(_: object) -> None:
        for tell in told:
            tell()

    async def opened(db: Db) -> None:
        _notice_silence(db)
        db.add_termination_listener(ended)
        await known.enter(db)

    connections = await asyncpg.create_pool(
        url,
        min_size=min(2, size),
        max_size=size,
        connection_class=_Connection,
        init=opened,
        timeout=CONNECT_SECONDS,
        command_timeout=60,
        max_inactive_connection_lifetime=300,
        server_settings={
            "application_name": "aiki",
            "jit": "off",
            "plan_cache_mode": "force_generic_plan",
            # A plan made while the tables were small is kept when they are large. Every statement is written for nested loops over
            # indexes; what looks cheaper on a small table must not be chosen.
            "enable_seqscan": "off",
            "enable_hashjoin": "off",
            "enable_mergejoin": "off",
            "statement_timeout": f"{statement_seconds}s",
            "enable_bitmapscan": "off" if pages else "on",
            "idle_in_transaction_session_timeout": "15s",
            "timezone": "UTC",
        },
    )
    return Pool(connections, told)


def _is_open(connection: PoolConnectionProxy[asyncpg.Record]) -> bool:
    """Whether it can be used. asyncpg takes a connection that was ended while it lay idle away from its proxy, which then answers nothing."""
    try:
        return not connection.is_closed()
    except asyncpg.InterfaceError:
        return False


def _notice_silence(db: Db) -> None:
    """Let the kernel end a connection to a host that is gone; by itself it would try for a quarter of an hour."""
    link = db._transport.get_extra_info("socket")  # type: ignore[union-attr]  # noqa: SLF001 - asyncpg offers no other way to its socket
    if link.family not in (socket.AF_INET, socket.AF_INET6):
        return
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {"TCP_KEEPIDLE": 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": SILENT_SECONDS - 2, "TCP_USER_TIMEOUT": SILENT_SECONDS * 1000}
    for name, value in wanted.items():
        if (option := getattr(socket, name, None)) is not None:  # not every system has all of them
            link.setsockopt(socket.IPPROTO_TCP, option, value)


async def check_version(db: Db) -> None:
    """Raise OldDatabaseError unless this Postgres is new enough."""
    version = int(await db.fetchval("select current_setting('server_version_num')"))
    if version < OLDEST * 10_000:
        raise OldDatabaseError(
            f"This is Postgres {version // 10_000}. Aiki needs Postgres {OLDEST} or newer: upgrade it, or set AIKI_DATABASE_URL to another."
        )


async def check_durability(db: Db) -> None:
    """Raise UnsafeDatabaseError unless a commit of this database survives a crash."""
    for setting, unsafe in (("fsync", "off"), ("synchronous_commit", "off"), ("full_page_writes", "off")):
        value = await db.fetchval("select current_setting($1)", setting)
        if value == unsafe:
            raise UnsafeDatabaseError(
                f"Postgres has {setting} = {value}: it would lose runs that were acknowledged. Set {setting} = on, or start with AIKI_ALLOW_UNSAFE_DATABASE=1 if losing data is fine."
            )

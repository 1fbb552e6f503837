"""Whether the data are the ones that they were: a fence around what a restore took back.

A restore takes the data back to a point, and everybody else remembers what came after it: workers hold runs and results, servers rows,
Redis the ids of runs. If any of that were written, the history would mix two pasts. So data that were restored begin a new
*incarnation*: every epoch rises beyond all that was given out, and all workers have to register again (decision 25).

That they were restored is seen in three ways. They lie in another place than they say: in another cluster or database, or on another timeline, as
after each recovery to a point in time and each failover. They say less than this server has seen: a copy was put in place of them. Or
somebody says so, by `python -m aiki_server restored`. No connection outlives what it leads to, so each new one is looked at before it is used,
and an old one only for proxies that change what is behind it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from aiki_server.store.statements import SQL

log = logging.getLogger(__name__)

_Db = asyncpg.Connection | PoolConnectionProxy
LEAST_RISE: Final = 2**20
"""More than the epochs that one run is given between a backup and the restore of it."""
MOST_RISE: Final = 2**24
"""Chosen at random up to this: where one backup is restored twice, both lives go on from different epochs. Some 200 restores fit in an integer."""
_LOCK: Final = 0x61696B6A
_PATIENCE_SECONDS: Final = 3600.0
"""All runs that have not ended are written."""


class Incarnation(NamedTuple):
    """What the data have last become."""

    number: int
    token: UUID
    begun_at: datetime
    rung: bool
    """Whether Redis was rebuilt since."""
    beat: int


class _Found(NamedTuple):
    said: Incarnation | None
    place: str | None
    first_epoch: int
    here: str


class Incarnations:
    """What one process knows of it, over all its connections. `current` is None before the first one."""

    def __init__(self) -> None:
        self.current: Incarnation | None = None
        self._told: list[Callable[[], None]] = []

    def when_another(self, tell: Callable[[], None]) -> None:
        """Call `tell` whenever the data are in another incarnation than before: what is remembered of them need not be true."""
        self._told.append(tell)

    async def enter(self, db: _Db) -> None:
        """Look at a connection before it is used. The data begin a new incarnation where they were restored."""
        known = self.current  # before the look: what it says lower than this was put back, and not only read earlier
        try:
            found = await _find(db)
        except asyncpg.UndefinedTableError:
            return  # not migrated yet: nobody can have written anything
        if found.said is None or _restored(found, found.said, known):
            await self.begin(db)
        else:
            self._know(found.said)

    async def beat(self, db: _Db) -> None:
        """Look at the data again, and leave a mark in them that a copy of before does not have."""
        await self.enter(db)
        if self.current is not None:
            await db.execute(SQL["incarnations.beat"], self.current.token)
            self._know((await _find(db)).said)

    async def begin(self, db: _Db, *, told: bool = False) -> None:
        """Begin a new incarnation, unless somebody has done so meanwhile; `told` if somebody says that the data were restored."""
        async with db.transaction():
            await db.execute(SQL["incarnations.patiently"])
            await db.execute(SQL["incarnations.alone"], _LOCK, timeout=_PATIENCE_SECONDS)
            known, found = self.current, await _find(db)
            if found.said is None:
                await db.execute(SQL["incarnations.begin"], 1, found.here, 0)
            elif told or _restored(found, found.said, known):
                await self._fence(db, found, found.said)
        self._know((await _find(db)).said)

    async def _fence(self, db: _Db, found: _Found, said: Incarnation) -> None:
        number = 1 + max(said.number, self.current.number if self.current else 0)
        rise = LEAST_RISE + secrets.randbelow(MOST_RISE - LEAST_RISE)
        log.warning(
            "the database was restored: no commit from before is taken, and workers have to register again",
            extra={"incarnation": number, "from": found.place, "to": found.here},
        )
        await db.execute(SQL["incarnations.hold"], timeout=_PATIENCE_SECONDS)
        await db.execute(SQL["incarnations.begin"], number, found.here, found.first_epoch + rise)
        await db.execute(SQL["incarnations.raise_epochs"], rise, timeout=_PATIENCE_SECONDS)
        await db.execute(SQL["incarnations.raise_first_epoch"], timeout=_PATIENCE_SECONDS)
        await db.execute(SQL["incarnations.forget_workers"])

    def _know(self, said: Incarnation | None) -> None:
        before = self.current
        if said is None or (before is not None and (said.number, said.beat) <= (before.number, before.beat)):
            return  # a look that began earlier and ended later
        self.current = said
        if before is not None and before.token != said.token:
            for tell in self._told:
                tell()


def _restored(found: _Found, said: Incarnation, known: Incarnation | None) -> bool:
    """Whether the data lie elsewhere than they say, or say less than was known."""
    if found.place != found.here:
        return True
    if known is None:
        return False
    return said.beat < known.beat if said.token == known.token else said.number <= known.number


async def rung(db: _Db, token: UUID) -> None:
    """Note that Redis was rebuilt."""
    await db.execute(SQL["incarnations.rung"], token)


async def _find(db: _Db) -> _Found:
    row = await db.fetchrow(SQL["incarnations.current"])
    assert row is not None
    if row["here"] is None:
        # It may become a primary under this connection, on another timeline.
        raise asyncpg.ReadOnlySQLTransactionError("the database is a replica")
    if row["number"] is None:
        return _Found(None, None, 0, row["here"])
    said = Incarnation(row["number"], row["token"], row["begun_at"], row["rung"], row["beat"])
    return _Found(said, row["place"], row["first_epoch"], row["here"])

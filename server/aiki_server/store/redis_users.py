"""The users of Redis that servers have made for namespaces, and their passwords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from aiki_server.store.connections import Db
from aiki_server.store.statements import SQL


@dataclass(frozen=True, slots=True)
class User:
    """Who reaches what is one namespace's in Redis."""

    name: str
    namespace: str
    password: str = field(repr=False)


async def use(db: Db, wanted: Sequence[User]) -> list[User]:
    """These are needed: as they are stored, where another server was earlier."""
    columns = zip(*((user.name, user.namespace, user.password) for user in sorted(wanted, key=lambda user: user.name)), strict=True)
    return [User(*record) for record in await db.fetch(SQL["redis_users.use"], *columns)]


async def aged(db: Db, *, seconds: float) -> list[str]:
    """The names of those that no server has needed for so long."""
    return [record[0] for record in await db.fetch(SQL["redis_users.aged"], seconds)]


async def forget(db: Db, names: Sequence[str], *, seconds: float) -> None:
    """These are gone; one that a server has needed meanwhile stays, and is made again."""
    await db.execute(SQL["redis_users.forget"], names, seconds)

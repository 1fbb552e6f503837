"""With which credentials workers reach Redis: one user for each namespace, who reaches what is its namespace's and nothing else (I45).

The server makes the users itself, and again after Redis has lost them; their passwords are in Postgres, so all servers name the same. A user
belongs to the tokens of its namespace: when they change, another takes its place, and the old one goes once no server has used it for a while.

Where Redis lets the server make no users, or lets in whoever comes, a single namespace shares the server's credentials, and several get none:
their workers poll. Either is said at start and by /readyz.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from aiki_server.engine.redis.circuit import Circuit
from aiki_server.engine.redis.needs import WORKER_COMMANDS
from aiki_server.engine.redis.stream_names import inbox_channels, streams_pattern
from aiki_server.store import redis_users
from aiki_server.store.connections import Pool
from aiki_server.store.redis_users import User

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
USE_SECONDS = 60.0
"""How often a server says which users it needs."""
AGED_SECONDS = 600.0
"""A user whom no server has needed for so long is deleted."""


class Access(StrEnum):
    """What workers are given."""

    USERS = "users"
    SHARED = "shared"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Urls:
    """How the server, and how workers reach Redis."""

    server: str | None
    worker: str | None

    @property
    def protected(self) -> bool:
        """Whether the server itself needs a password."""
        return self.server is not None and bool(urlsplit(self.server).password)

    @property
    def chosen(self) -> bool:
        """Whether somebody has given workers credentials of their own."""
        return (
            self.worker is not None
            and bool(urlsplit(self.worker).password)
            and _credentials(self.worker) != _credentials(self.server or "")
        )


class RedisUsers:
    """`turn` has to be repeated by a Loop. `tokens` maps those of workers to namespaces; without any there is one namespace, and nobody to keep out."""

    def __init__(self, pool: Pool, circuit: Circuit, urls: Urls, *, tokens: Mapping[str, str]) -> None:
        self.access = Access.USERS
        self.reason = ""
        """Why there are no users."""
        self._pool = pool
        self._circuit = circuit
        self._urls = urls
        self._names = _names(tokens)
        self._users: dict[str, User] = {}
        self._made = False
        self._used_at = 0.0
        self._lost = asyncio.Event()
        if not tokens or (len(self._names) == 1 and (urls.chosen or not urls.protected)):
            self.access = Access.SHARED  # nobody is to be kept out, or somebody has seen to it
        elif not urls.protected:
            self._without("the Redis of AIKI_REDIS_URL asks for no password, so that a user keeps nobody out")

    def url(self, namespace: str) -> str | None:
        """How workers of a namespace reach Redis; None where they have to poll."""
        if self._urls.worker is None or self.access is Access.NONE:
            return None
        user = self._users.get(namespace)
        if self.access is Access.SHARED:
            return self._urls.worker
        return None if user is None else _with_credentials(self._urls.worker, user)

    def complaint(self) -> str | None:
        """What is less than it could be, in a sentence without names."""
        if not self.reason:
            return None
        if self.access is Access.SHARED:
            return f"Workers are given the server's own Redis credentials, because {self.reason}."
        return f"Workers are given no Redis and poll, because several namespaces share it and {self.reason}."

    async def begin(self) -> None:
        """Know all users before the first worker is answered."""
        if self._urls.server is not None and self.access is Access.USERS:
            await self._use()
            await self._ensure()

    def lost(self) -> None:
        """Redis may have lost everything."""
        self._lost.set()

    async def turn(self) -> None:
        """See to it that the users are there, and that those go whom nobody needs; then wait a while."""
        if self.access is Access.USERS:
            if time.monotonic() - self._used_at >= USE_SECONDS:
                await self._use()
            await self._ensure()
            await self._forget_aged()
        self._lost.clear()
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                await self._lost.wait()
        except TimeoutError:
            return

    async def _use(self) -> None:
        async with self._pool.acquire() as db:
            wanted = [User(name, namespace, secrets.token_hex(32)) for namespace, name in self._names.items()]
            self._users = {user.namespace: user for user in await redis_users.use(db, wanted)}
        self._used_at = time.monotonic()

    async def _ensure(self) -> None:
        redis = self._circuit.redis
        if redis is None:
            return
        try:
            await self._make(redis)
        except ResponseError as error:
            if not _is_refusal(error):
                self._circuit.failed(error)
                return
            log.debug("no redis users", extra={"error": error})
            self._without("the server's Redis user may not use ACL SETUSER, ACL USERS, ACL GETUSER and ACL DELUSER")
        except (RedisError, OSError, TimeoutError) as error:
            self._circuit.failed(error)

    async def _make(self, redis: Redis) -> None:
        # One answer tells what is there; it is asked for every few seconds, for a failover brings a Redis that never had them.
        there = set(map(_text, await _acl(redis, "USERS")))
        if not self._made and _lets_in_everybody(await _acl(redis, "GETUSER", "default")):
            self._without("the default user of Redis needs no password, so that a user keeps nobody out")
            return
        # Once in the life of a server all are made, whatever is there: somebody may have changed them.
        missing = [user for user in self._users.values() if user.name not in there or not self._made]
        pipeline = redis.pipeline(transaction=False)
        for user in missing:
            pipeline.execute_command("ACL", "SETUSER", user.name, *_rules(user))
        if missing:
            await pipeline.execute()
            log.info("redis users made", extra={"users": len(missing)})
        self._made = True

    async def _forget_aged(self) -> None:
        redis = self._circuit.redis
        if redis is None:
            return
        async with self._pool.acquire() as db:
            aged = await redis_users.aged(db, seconds=AGED_SECONDS)
            if not aged:
                return
            try:
                await _acl(redis, "DELUSER", *aged)
            except (RedisError, OSError, TimeoutError) as error:
                self._circuit.failed(error)
                return
            await redis_users.forget(db, aged, seconds=AGED_SECONDS)

    def _without(self, reason: str) -> None:
        self.access = Access.SHARED if len(self._names) <= 1 else Access.NONE
        self.reason = reason
        if self._urls.server is not None:
            log.warning("no redis user for each namespace", extra={"detail": self.complaint()})


async def _acl(redis: Redis, *command: str) -> Any:
    return await redis.execute_command("ACL", *command)  # type: ignore[no-untyped-call]


def _names(tokens: Mapping[str, str]) -> dict[str, str]:
    """The name of each namespace's user: another one when its tokens, or what it may, are others."""
    by_namespace: dict[str, list[str]] = {}
    for token, namespace in tokens.items():
        by_namespace.setdefault(namespace, []).append(token)
    return {namespace: f"aiki-{namespace}-{_digest(namespace, found)}" for namespace, found in by_namespace.items()}


def _digest(namespace: str, tokens: list[str]) -> str:
    rules = _rules(User("", namespace, ""))
    return sha256(repr((rules, sorted(sha256(token.encode()).hexdigest() for token in tokens))).encode()).hexdigest()[:12]


def _rules(user: User) -> list[str]:
    """What the user may; of the password only the hash, because Redis repeats in errors what it does not understand."""
    commands = [f"+{command.lower().replace(' ', '|')}" for command in (*WORKER_COMMANDS, "SELECT")]
    places = [f"~{streams_pattern(user.namespace)}", f"&{inbox_channels(user.namespace)}"]
    return ["reset", "on", f"#{sha256(user.password.encode()).hexdigest()}", "resetchannels", *places, *commands]


def _is_refusal(error: ResponseError) -> bool:
    """Whether Redis will answer so for ever. BUSY, MASTERDOWN, TRYAGAIN and the like, which the client leaves at the beginning of an error, say that it will not."""
    word = str(error).partition(" ")[0]
    return isinstance(error, NoPermissionError) or word == "ERR" or not word.isupper()


def _lets_in_everybody(default: object) -> bool:
    """Whether the user `default`, as ACL GETUSER shows him, needs no password."""
    assert isinstance(default, list | dict)
    shown = dict(zip(map(_text, default[::2]), default[1::2], strict=True)) if isinstance(default, list) else default
    return {"on", "nopass"} <= set(map(_text, shown["flags"]))


def _credentials(url: str) -> tuple[str | None, str | None]:
    parts = urlsplit(url)
    return parts.username, parts.password


def _with_credentials(url: str, user: User) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user.name}:{user.password}@{parts.netloc.rpartition('@')[2]}"))


def _text(raw: object) -> str:
    return raw.decode() if isinstance(raw, bytes) else str(raw)

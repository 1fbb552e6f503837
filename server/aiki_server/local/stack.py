"""Postgres and Valkey together, for the length of a block: what `aiki dev`, the tests and the benchmarks stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aiki_server.local.accounts import account_for, entered
from aiki_server.local.postgres import Postgres
from aiki_server.local.valkey import Valkey


@dataclass(frozen=True, slots=True)
class Stack:
    """What a server needs."""

    postgres: Postgres
    valkey: Valkey


@contextmanager
def running(home: Path, *, settings: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Postgres and Valkey below `home` for as long as the block lasts; `settings` are Postgres's."""
    entered(home, account_for(home / "postgres" / "data"))
    stack = Stack(Postgres(home / "postgres", settings=settings), Valkey(home / "valkey"))
    try:
        stack.postgres.start()
        stack.valkey.start()
        yield stack
    finally:
        stack.valkey.stop()
        stack.postgres.stop()
        for sockets in (stack.postgres.sockets, stack.valkey.socket.parent):
            with suppress(OSError):  # a socket of a killed one is still in it
                sockets.rmdir()

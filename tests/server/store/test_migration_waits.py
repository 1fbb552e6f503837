"""A migration that begins before its network lets it through: pods are reached by network policies some seconds after they begin."""

from __future__ import annotations

import asyncio
import socket
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from aiki_server.store import migrate, reaching
from support.waiting import until


async def test_a_database_that_is_not_reached_yet_is_waited_for(own_database, caplog):
    folder = parse_qs(urlsplit(own_database).query)["host"][0]

    async def through(reader, writer):
        inner_reader, inner_writer = await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.5432")
        await asyncio.gather(_pipe(reader, inner_writer), _pipe(inner_reader, writer))

    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))  # refused until somebody listens
        url = own_database.split("?")[0].replace("@/", f"@127.0.0.1:{door.getsockname()[1]}/")
        async with asyncio.TaskGroup() as group:
            migrating = group.create_task(migrate.migrate(url))
            await until(lambda: any(record.message == "database not reached" for record in caplog.records), seconds=20)
            assert not migrating.done()
            server = await asyncio.start_server(through, sock=door)
        assert migrating.result()
        server.close()


async def test_a_database_that_does_not_let_us_in_is_not_waited_for(own_database, monkeypatch):
    monkeypatch.setattr(reaching, "backoff_seconds", lambda *_, **__: 1e-6)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await migrate.migrate(own_database.replace("?", "_not?"), reach_seconds=3600.0)  # who waits waits until the test's time is over


async def test_a_url_that_makes_no_sense_is_not_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(reaching, "backoff_seconds", lambda *_, **__: 1e-6)
    with pytest.raises(asyncpg.ClientConfigurationError):
        await migrate.migrate("postgresql://u@/none?host=/nowhere&sslmode=nonsense", reach_seconds=3600.0)
    assert not caplog.records


async def _pipe(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

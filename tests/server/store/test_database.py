"""Connections after one was lost: S34."""

from __future__ import annotations

import asyncpg
import pytest

from aiki_server.store import connections


@pytest.fixture
async def pool(database_url):
    opened = await connections.connect(database_url, size=4)
    yield opened
    opened.close()


async def backends(pool, count=3):
    """Which processes of Postgres answer on so many connections at once; all are given back afterwards."""
    taken = [await pool.take() for _ in range(count)]
    found = [await connection.fetchval("select pg_backend_pid()") for connection in taken]
    for connection in taken:
        await pool.keep(connection)
    return set(found)


async def test_connections_are_used_again(pool):
    assert await backends(pool) == await backends(pool)


async def lose(pool, error):
    async with pool.acquire():
        raise error


@pytest.mark.parametrize(
    "error",
    [
        OSError("reset"),
        TimeoutError(),
        asyncpg.AdminShutdownError("57P01"),
        asyncpg.ReadOnlySQLTransactionError("25006"),
        asyncpg.ConnectionDoesNotExistError("08003"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_after_one_was_lost_none_of_the_others_is_used(pool, error):
    before = await backends(pool)
    with pytest.raises(type(error)):
        await lose(pool, error)
    assert not before & await backends(pool)


async def divide_by_zero(pool):
    async with pool.acquire() as db:
        await db.fetchval("select 1 / 0")


async def test_an_error_of_a_statement_costs_no_connection(pool):
    before = await backends(pool)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await divide_by_zero(pool)
    assert await backends(pool) == before


async def write_to_a_replica(pool):
    async with pool.acquire() as db:
        await db.execute("set default_transaction_read_only = on")
        await db.execute("create table never (id integer)")


async def test_a_server_that_became_read_only_is_not_trusted(pool):
    before = await backends(pool)
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        await write_to_a_replica(pool)
    assert not before & await backends(pool)

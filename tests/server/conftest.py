"""A server within the test's own process, on a database of its own; after each test the database is held against the invariants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from aiki_server.api.context import Context
from aiki_server.app import create_app
from aiki_server.engine.service import Engine
from aiki_server.engine.time import timers
from aiki_server.engine.watch import results
from aiki_server.local.postgres import Postgres
from aiki_server.settings import Settings
from aiki_server.store import migrate
from support.asgi_client import AsgiClient
from support.engine.folding import folded
from support.fake_worker import FakeWorker

TABLES = (
    "runs",
    "history",
    "inbox",
    "child_cancellations",
    "orders",
    "trials",
    "workers",
    "builds",
    "event_schemas",
    "registrations",
    "pools",
)


@pytest.fixture(scope="session")
def migrated_url(postgres: Postgres) -> str:
    """A migrated database for the tests of this process."""

    async def make() -> str:
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("create database server_tests")
        await connection.close()
        url = postgres.url.replace("/postgres?", "/server_tests?")
        await migrate.migrate(url)
        return url

    return asyncio.run(make())


@pytest.fixture
async def database_url(migrated_url: str) -> str:
    """That database, empty."""
    connection = await asyncpg.connect(migrated_url)
    for table in TABLES:
        await connection.execute(f"delete from {table}")
    await connection.close()
    return migrated_url


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A look into the test's database."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
def settings(database_url: str, redis_url: str, redis: Redis) -> Settings:
    """Two namespaces, a short lease, nothing flushed."""
    tokens = {"token": "default", "other-token": "other"}
    return Settings(
        database_url,
        redis_url=redis_url,
        tokens=tokens,
        lease_seconds=3.0,
        heartbeat_seconds=1.0,
        unsafe_database=True,
        migrate=False,
        connections=6,
    )


@pytest.fixture
async def start_server(settings: Settings) -> AsyncIterator[Callable[..., Any]]:
    """Starts servers on the test's database; `start_server(redis_url=None)` changes settings."""
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> AsgiClient:
            client = AsgiClient(create_app(replace(settings, **changes)), token="token")
            return await stack.enter_async_context(client)

        yield start


@pytest.fixture
async def api(start_server: Callable[..., Any], db: asyncpg.Connection) -> AsyncIterator[AsgiClient]:
    """A server; the database is checked when the test is done with it."""
    yield await start_server()
    async with db.transaction(isolation="repeatable_read", readonly=True):  # the server still works: one look at all tables
        await check_invariants(db)


@pytest.fixture
def engine(api: AsgiClient) -> Engine:
    """What runs behind `api`."""
    context: Context = api.app._drain.__self__
    return context.engine


@pytest.fixture
def unaided(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a server to which no fallback comes to the rescue: what is not told at once is not found within the length of a test.

    A file whose tests are to see that gives them as its `settings`. What hurries the sweeper is told, and goes on.
    """
    monkeypatch.setattr(results, "FALLBACK_SECONDS", 3600.0)
    monkeypatch.setattr(timers, "LONGEST_SLEEP", 3600.0)
    return replace(settings, lease_seconds=10_800.0, heartbeat_seconds=3600.0)


@pytest.fixture
async def worker(api: AsgiClient) -> FakeWorker:
    """A registered worker that carries `flow` 1.0 in pool `main`."""
    return await FakeWorker(api, "w1").register()


@pytest.fixture
def other(api: AsgiClient) -> AsgiClient:
    """The same server, asked by somebody of another namespace."""
    return api.as_("other-token")


async def check_invariants(db: asyncpg.Connection) -> None:
    """S12, S13, S14: histories are gapless, and every status is the fold of its history."""
    for run in await db.fetch("select * from runs"):
        chunks = await db.fetch("select seq, count, entries from history where run_id = $1 order by seq", run["id"])
        entries: list[dict[str, Any]] = []
        for chunk in chunks:
            assert chunk["seq"] == len(entries) + 1, f"a gap in the history of {run['id']}"
            found = json.loads(chunk["entries"])
            assert len(found) == chunk["count"]
            entries += found
        assert len(entries) == run["history_len"]
        assert run["status"] in folded(entries), f"{run['status']} is not what {[entry['k'] for entry in entries]} amounts to"
        seqs = [row["seq"] for row in await db.fetch("select seq from inbox where run_id = $1 order by seq", run["id"])]
        assert seqs == list(range(1, run["inbox_seq"] + 1))

"""The schema: migrations amount to schema.sql, run once, and the database refuses what must not be (S13, S14)."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

import aiki_server.store
from aiki.protocol import TERMINAL, Status
from aiki_server.model.rows import Chunk, NewChild, NewItem, NewRun, Row
from aiki_server.store import migrate
from aiki_server.store.statements import SQL
from support.server import ServerProcess

STORE = Path(aiki_server.store.__file__).parent

CATALOG = """
select c.relname || '.' || a.attname as name, format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '') as what
from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped and c.relkind = 'r' and c.relname <> 'migrations'
union all select 'index ' || indexname, indexdef from pg_indexes where schemaname = 'public' and tablename <> 'migrations'
union all select 'constraint ' || conname, pg_get_constraintdef(oid) from pg_constraint
where connamespace = 'public'::regnamespace and conrelid is distinct from to_regclass('migrations') and conrelid <> 0
union all select 'options ' || relname, reloptions::text from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> 'migrations'
order by 1
"""


@pytest.fixture
async def empty_urls(postgres):
    """Two databases with nothing in them."""
    connection = await asyncpg.connect(postgres.url)
    names = ["empty_one", "empty_two"]
    for name in names:
        await connection.execute(f"create database {name}")
    yield [postgres.url.replace("/postgres?", f"/{name}?") for name in names]
    for name in names:
        await connection.execute(f"drop database {name} with (force)")
    await connection.close()


async def catalog(url):
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(CATALOG)
    await connection.close()
    return {row["name"]: row["what"] for row in rows}


async def test_the_migrations_amount_to_the_schema(empty_urls):
    migrated, created = empty_urls
    await migrate.migrate(migrated)
    connection = await asyncpg.connect(created)
    await connection.execute((STORE / "schema.sql").read_text())
    await connection.close()
    assert await catalog(migrated) == await catalog(created)


def test_the_first_migration_is_the_schema():
    """Until there is a second one: then this test goes, and the one above says that they amount to the same."""
    assert len(migrate.migrations()) == 1
    assert migrate.migrations() == [(1, (STORE / "schema.sql").read_text())]


async def test_a_later_migration_is_applied_behind_the_first(empty_urls, monkeypatch):
    first = migrate.migrations()
    assert await migrate.migrate(empty_urls[0]) == [1]
    monkeypatch.setattr(migrate, "migrations", lambda: [*first, (2, "alter table runs add column later text")])
    connection = await asyncpg.connect(empty_urls[0])
    assert not await migrate.up_to_date(connection)
    assert await migrate.migrate(empty_urls[0]) == [2]
    assert await migrate.up_to_date(connection)
    await connection.close()
    assert "runs.later" in await catalog(empty_urls[0])


async def test_many_servers_may_migrate_at_once(empty_urls):
    applied = await asyncio.gather(*[migrate.migrate(empty_urls[0]) for _ in range(4)])
    assert sorted(map(len, applied)) == [0, 0, 0, len(migrate.migrations())]


async def test_a_migration_that_fails_leaves_nothing_and_can_be_repeated(empty_urls, monkeypatch):
    good = migrate.migrations()
    monkeypatch.setattr(migrate, "migrations", lambda: [*good, (99, "create table half (a int); select 1 / 0")])
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate.migrate(empty_urls[0])
    monkeypatch.setattr(migrate, "migrations", lambda: [*good, (99, "create table half (a int)")])
    assert await migrate.migrate(empty_urls[0]) == [99]


@pytest.fixture
def own_process(own_database, valkey, tmp_path):
    """A server that has not been started, on a database of its own."""
    process = ServerProcess(own_database, valkey.url, log=tmp_path / "server.log")
    yield process
    process.stop()


async def next_release(url, by):
    """What a later release does to the database: a migration that this one does not know."""
    await migrate.migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute("insert into migrations (number, release) values (9000, $1)", migrate.release() + by)
    await connection.execute("alter table runs add column later text")
    await connection.close()


async def test_a_server_starts_on_the_schema_of_the_next_release(own_process, own_database):
    await next_release(own_database, 1)
    await asyncio.to_thread(own_process.start)
    assert await migrate.migrate(own_database) == []


async def test_nothing_is_done_with_a_schema_of_two_releases_ahead(own_process, own_database):
    await next_release(own_database, 2)
    before = await catalog(own_database)
    with pytest.raises(migrate.NewerDatabaseError, match="only the release before works with it"):
        await migrate.migrate(own_database)
    with pytest.raises(AssertionError, match=f"schema of release {migrate.release() + 2}, and this is release {migrate.release()}"):
        await asyncio.to_thread(own_process.start)
    ended = await asyncio.to_thread(run_migration, own_database)
    assert ended.returncode == 2
    assert ended.stderr.startswith("aiki_server: The database has the schema of release")
    assert await catalog(own_database) == before


def run_migration(url):
    """The command that the operator's Job runs."""
    environment = {**os.environ, "AIKI_DATABASE_URL": url}
    return subprocess.run([sys.executable, "-m", "aiki_server", "migrate"], env=environment, capture_output=True, text=True, check=False)


async def test_a_database_that_knows_of_no_releases_is_of_the_first(empty_urls):
    await migrate.migrate(empty_urls[0])
    connection = await asyncpg.connect(empty_urls[0])
    await connection.execute("alter table migrations drop column release")
    await migrate.check_release(connection)
    assert await migrate.up_to_date(connection)
    await connection.close()
    assert await migrate.migrate(empty_urls[0]) == []


def test_each_migration_belongs_to_a_release():
    numbers = {number for number, _ in migrate.migrations()}
    assert list(migrate.FIRST_OF_RELEASE) == sorted(set(migrate.FIRST_OF_RELEASE))
    assert min(numbers) in migrate.FIRST_OF_RELEASE
    assert numbers.issuperset(migrate.FIRST_OF_RELEASE)


def test_migrations_are_numbered_without_gaps():
    assert [number for number, _ in migrate.migrations()] == list(range(1, len(migrate.migrations()) + 1))


def test_every_statement_has_a_purpose_and_a_function():
    for name, text in SQL.items():
        module, function = name.split(".")
        assert text.startswith("-- "), f"{name} does not say what it is for"
        (source,) = (path.read_text() for path in (STORE / f"{module}.py", STORE / "queries" / f"{module}.py") if path.exists())
        assert f'SQL["{name}"]' in source, f"{module}.py does not use {function}"


@pytest.mark.parametrize(
    "change",
    [
        "status = 'completed'",
        "finished_at = now()",
        "status = 'running'",
        "status = 'waiting'",
        "status = 'scheduled'",
        "status = 'nonsense'",
        "epoch = -1",
        "ref = 'r'",
        "on_parent_close = 'maybe'",
    ],
)
async def test_the_database_refuses_impossible_runs(db, database_url, change):
    await db.execute("insert into runs (id, namespace, workflow, status, input) values (gen_random_uuid(), 'n', 'w', 'queued', '1')")
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(f"update runs set {change}")


async def test_the_database_knows_the_statuses_of_the_protocol(db):
    check = await db.fetchval("select pg_get_constraintdef(oid) from pg_constraint where conname = 'runs_status_check'")
    assert set(re.findall(r"'(\w+)'", check)) == {*Status}
    ended = await db.fetchval(
        "select pg_get_constraintdef(oid) from pg_constraint where conrelid = 'runs'::regclass and conname = 'runs_check'"
    )
    assert set(re.findall(r"'(\w+)'", ended)) == TERMINAL


@pytest.mark.parametrize("name", ["lanes.lock", "claims.claim", "claims.claim_any", "claims.grant_again"])
def test_a_statement_that_gives_whole_runs_gives_the_columns_of_a_row_in_its_order(name):
    assert f"{', '.join(Row._fields)}, " in SQL[name]


def test_columns_of_a_run_are_written_in_no_statement():
    """`{run_columns}` has them from `Row`, so that a new column is in one order everywhere."""
    texts = {path.name: " ".join(path.read_text().split()) for path in (STORE / "sql").glob("*.sql")}
    assert [name for name, text in texts.items() if ", ".join(Row._fields[:12]) in text] == []


async def test_columns_of_a_row_are_columns_of_the_table(db):
    found = await db.fetch("select column_name from information_schema.columns where table_name = 'runs'")
    assert set(Row._fields) <= {record[0] for record in found}


@pytest.mark.parametrize(
    ("statement", "row"), [("starts.insert", NewRun), ("lanes.write", NewItem), ("lanes.write", Chunk), ("lanes.write", NewChild)]
)
def test_a_statement_has_a_parameter_for_each_field_that_it_inserts(statement, row):
    inserted = [name for name in row._fields if (row, name) != (NewRun, "trial")]
    assert len(inserted) <= SQL[statement].count("$")


def test_a_statement_is_printed_as_postgres_gets_it():
    command = [sys.executable, "-m", "aiki_server.store.statements", "claims.claim"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{SQL['claims.claim']};\n"

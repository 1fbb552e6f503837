"""Postgres and Valkey from the wheels: they keep what they should, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from aiki_server.local import running
from aiki_server.local.folders import LocalError
from aiki_server.local.postgres import Postgres
from aiki_server.local.valkey import Valkey
from support.waiting import wait_until

PARENT = """
import sys
from pathlib import Path
from aiki_server.local import running
with running(Path(sys.argv[1])) as stack:
    print(stack.postgres.pid, stack.valkey.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path_factory):
    """A folder whose path is too long for sockets."""
    return tmp_path_factory.mktemp("a-rather-long-name-for-a-folder-that-holds-a-socket-" + "x" * 40)


async def test_data_outlives_a_stop_and_a_crash(home):
    postgres = Postgres(home)
    for end in (postgres.stop, postgres.kill, postgres.stop):
        postgres.start()
        connection = await asyncpg.connect(postgres.url)
        await connection.execute("create table if not exists kept (a int); insert into kept values (1)")
        count = await connection.fetchval("select count(*) from kept")
        await connection.close()
        end()
    assert count == 3
    assert postgres.pid is None


async def test_valkey_begins_empty(home):
    valkey = Valkey(home)
    for end in (valkey.kill, valkey.stop):
        valkey.start()
        client = Redis.from_url(valkey.url)
        assert await client.dbsize() == 0
        await client.set("a", 1)
        await client.aclose()
        end()


def test_nothing_outlives_a_killed_parent(home):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdin is not None
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert all(map(psutil.pid_exists, pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    parent.stdin.close()
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), "Postgres and Valkey to end with their parent")


def test_a_second_start_on_the_same_folder_is_refused(home, monkeypatch):
    monkeypatch.setattr("aiki_server.local.postgres.BUSY_SECONDS", 0.1)
    with running(home), pytest.raises(LocalError, match="in use"):
        Postgres(home / "postgres").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
def test_postgres_does_not_run_as_root(home):
    with running(home) as stack:
        assert stack.postgres.pid is not None
        assert psutil.Process(stack.postgres.pid).uids().real != 0


def test_a_broken_start_says_why(home):
    with pytest.raises(LocalError, match="nonsense"):
        Postgres(home, settings={"nonsense": "1"}).start()


@pytest.mark.parametrize("part", ["postgres", "valkey"])
def test_folder_that_is_a_link_is_refused(home, tmp_path_factory, part):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    elsewhere.chmod(0o755)
    (home / part).symlink_to(elsewhere)
    with pytest.raises(LocalError, match="link"), running(home):
        pytest.fail("it was followed")
    assert (elsewhere.stat().st_uid, elsewhere.stat().st_mode & 0o777, list(elsewhere.iterdir())) == (os.geteuid(), 0o755, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
@pytest.mark.parametrize("part", ["", "postgres", "valkey"])
def test_folder_that_somebody_else_made_is_refused(home, part):
    (home / part).mkdir(parents=True, exist_ok=True)
    os.chown(home / part, 65534, 65534)
    with pytest.raises(LocalError, match="another user"), running(home):
        pytest.fail("it was taken")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
def test_folder_of_sockets_that_somebody_else_made_is_not_used(home):
    noted = Valkey(home).socket.parent
    noted.rmdir()
    noted.mkdir(mode=0o700)
    os.chown(noted, 65534, 65534)
    assert Valkey(home).socket.parent != noted
    noted.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
def test_folder_below_one_that_somebody_else_made_in_a_shared_one_is_refused(tmp_path_factory):
    shared = tmp_path_factory.mktemp("shared")
    (shared / "guessed").mkdir()
    shared.chmod(0o1777)
    os.chown(shared / "guessed", 65534, 65534)
    with pytest.raises(LocalError, match="everybody shares"), running(shared / "guessed" / "home"):
        pytest.fail("it was taken")


def test_folder_in_which_everybody_may_rename_is_refused(home):
    home.chmod(0o777)
    with pytest.raises(LocalError, match="Everybody may rename"), running(home / "data"):
        pytest.fail("it was taken")


async def test_neither_lets_anybody_in_without_its_password(home):
    with running(home) as stack:
        for wrong in (
            stack.postgres.url.replace(stack.postgres._password, "guess"),
            f"postgresql://postgres@/postgres?host={stack.postgres.sockets}",
        ):
            with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
                await asyncpg.connect(wrong)
        async with Redis.from_url(f"unix://{stack.valkey.socket}") as client:
            with pytest.raises(RedisError, match="authenticated"):
                await client.dbsize()
        for path in (home, stack.postgres.home, stack.postgres.data, stack.postgres.sockets, stack.valkey.home, stack.valkey.socket.parent):
            assert path.stat().st_mode & 0o067 == 0, path  # for root, Postgres's account may pass through, and not look


async def test_data_of_a_release_without_passwords_is_given_one(home):
    before = Postgres(home)
    before.start()
    connection = await asyncpg.connect(before.url)
    await connection.execute("create table kept (a int); alter role postgres password null")
    await connection.close()
    before.stop()
    (home / "password").unlink()

    after = Postgres(home)
    after.start()
    connection = await asyncpg.connect(after.url)
    assert await connection.fetchval("select count(*) from kept") == 0
    await connection.close()
    after.stop()

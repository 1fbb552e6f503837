"""Postgres and Valkey from the wheels: they keep what they should, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import asyncpg
import psutil
import pytest
from redis.asyncio import Redis

from aiki_server.local import LocalError, Postgres, Valkey, running

PARENT = """
import sys, time
from pathlib import Path
from aiki_server.local import running
with running(Path(sys.argv[1])) as stack:
    print(stack.postgres.pid, stack.valkey.pid, flush=True)
    time.sleep(600)
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
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(home)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert all(map(psutil.pid_exists, pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(psutil.pid_exists, pids))


def test_a_second_start_on_the_same_folder_is_refused(home, monkeypatch):
    monkeypatch.setattr("aiki_server.local.BUSY_SECONDS", 0.1)
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

"""I46: after a whole life of faults, no log holds a password, a token or a payload."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from aiki import Client
from aiki_server.local import Postgres, Valkey
from faults.installation import UNMEASURED
from plugin_stack import ServerProcess, wait_until
from plugin_workers import until

DATABASE_PASSWORD = "database-hush-2"
TOKEN = "token-hush-3"
PAYLOAD = "payload-hush-4"
PROGRAM = Path(__file__).with_name("program.py")


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of its own, which asks for a password."""
    valkey = Valkey(tmp_path / "valkey")
    valkey.start()
    yield valkey
    valkey.stop()


def begun(log: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """A worker."""
    with log.open("wb") as output:
        return subprocess.Popen([sys.executable, str(PROGRAM)], stdout=output, stderr=output, env=environment)


async def test_no_log_holds_a_secret(postgres: Postgres, own_valkey: Valkey, tmp_path: Path, unique: str) -> None:
    redis_password = unquote(str(urlsplit(own_valkey.url).password))
    assert len(redis_password) > 8
    database = f"{postgres.url}&password={DATABASE_PASSWORD}"
    settings = {"AIKI_TOKENS": f"default:{TOKEN}", "AIKI_LOG_LEVEL": "DEBUG", "AIKI_LEASE_SECONDS": "2", **UNMEASURED}
    server = ServerProcess(database, own_valkey.url, log=tmp_path / "server.log", settings=settings)
    server.start()
    environment = {
        **os.environ,
        "AIKI_URL": server.url,
        "AIKI_TOKEN": TOKEN,
        "FAULTS_DIRECTORY": str(tmp_path),
        "FAULTS_LOG_LEVEL": "DEBUG",
    }
    worker = begun(tmp_path / "worker.log", environment)
    try:
        async with Client(server.url, token=TOKEN) as client:
            for life in range(2):
                runs = [await client.start("in-step", f"{PAYLOAD}-{life}-{number}", ref=f"{unique}-{life}-{number}") for number in range(3)]
                await until(partial(all_begun, tmp_path, life), seconds=30)
                own_valkey.kill()
                server.kill()
                for number in range(3):
                    (tmp_path / f"{PAYLOAD}-{life}-{number}").touch()
                server.start()
                assert [await run.result(30) for run in runs] == [["before", f"{PAYLOAD}-{life}-{n}", "after"] for n in range(3)]
                assert await (await client.start("retrying", PAYLOAD, ref=f"{unique}-retrying-{life}")).result(30) == ["before", 3, "after"]
                own_valkey.start()
            async with Client(server.url, token=f"{TOKEN}-wrong") as stranger:
                with pytest.raises(Exception, match="token"):
                    await stranger.start("in-step", PAYLOAD)
        wait_until(lambda: "heartbeat" in (tmp_path / "worker.log").read_text(), "the worker to have missed its server")
    finally:
        worker.terminate()
        worker.wait(30)
        server.stop()
    for log in ("server.log", "worker.log"):
        text = (tmp_path / log).read_text()
        assert len(text) > 1_000
        found = [
            line for line in text.splitlines() if any(secret in line for secret in (redis_password, DATABASE_PASSWORD, TOKEN, PAYLOAD))
        ]
        assert found == [], f"{log} holds secrets"


async def all_begun(directory: Path, life: int) -> bool:
    trace = directory / "trace.jsonl"
    return trace.exists() and all(f"{PAYLOAD}-{life}-{number}" in trace.read_text() for number in range(3))

"""I46: after a whole life of faults, no log and no figure holds a password, a token or a payload."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from aiki import Client
from aiki.protocol import figures_token
from aiki_server.local.postgres import Postgres
from aiki_server.local.valkey import Valkey
from faults.installation import UNMEASURED
from support.ports import free_port
from support.server import ServerProcess
from support.waiting import until, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

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


def figures(port: int, token: str | None) -> tuple[int, str]:
    """Status and text of what the worker says of itself."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


async def test_no_log_and_no_figure_holds_a_secret(postgres: Postgres, own_valkey: Valkey, tmp_path: Path, unique: str) -> None:
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
        "AIKI_HEALTH_PORT": str(port := free_port()),
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
        (stranger_s, refusal), (status, told) = figures(port, None), figures(port, figures_token(TOKEN))
        assert (stranger_s, status, figures(port, f"{TOKEN}-wrong")[0]) == (401, 200, 401)
    finally:
        worker.terminate()
        worker.wait(30)
        server.stop()
    counted = {(one.name, *one.labels.values()): one.value for family in text_string_to_metric_families(told) for one in family.samples}
    assert counted["aiki_task_attempts_total", "retrying", "fails_twice", "failed", "ConnectionError"] >= 4  # of both lives
    assert counted["aiki_worker_heartbeats_total", "unanswered"] >= 1
    assert "fails_twice" not in refusal
    texts = {log: (tmp_path / log).read_text() for log in ("server.log", "worker.log")}
    for log, text in {**texts, "figures": told}.items():
        assert len(text) > 1_000
        found = [
            line for line in text.splitlines() if any(secret in line for secret in (redis_password, DATABASE_PASSWORD, TOKEN, PAYLOAD))
        ]
        assert found == [], f"{log} holds secrets"


async def all_begun(directory: Path, life: int) -> bool:
    trace = directory / "trace.jsonl"
    return trace.exists() and all(f"{PAYLOAD}-{life}-{number}" in trace.read_text() for number in range(3))

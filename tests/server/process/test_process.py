"""The server as a process: it starts, refuses, stops in time, and dies where a test wants it to (S1, S3)."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from unittest.mock import AsyncMock

import pytest

from aiki_server.api.edge.auth import Tokens
from aiki_server.api.edge.gateway import Edge, Hot
from aiki_server.api.edge.origin import Origins
from support.server import ServerProcess
from support.waiting import wait_until


@pytest.fixture
def process(own_database, valkey, tmp_path):
    """A server of one's own."""
    made = ServerProcess(own_database, valkey.url, log=tmp_path / "server.log")
    yield made
    made.stop()


def call(process, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{process.url}{path}", data=data, headers={"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=40) as answer:
        return answer.status, json.loads(answer.read())


def test_a_server_stops_at_once_though_someone_waits(process, unique):
    process.start()
    _, started = call(process, "/api/v1/runs", {"workflow": unique})
    answers = []
    waiting = threading.Thread(target=lambda: answers.append(call(process, f"/api/v1/runs/{started['id']}/result?timeout=30")))
    waiting.start()
    wait_until(lambda: b"aiki_result_waiters 1.0" in urllib.request.urlopen(f"{process.url}/metrics", timeout=5).read(), "a waiter")
    began = time.monotonic()
    process.stop()
    waiting.join()
    assert time.monotonic() - began < 5
    assert answers[0][0] == 202


def test_a_connection_that_is_kept_alive_is_answered_once_more_and_closed(postgres, valkey, tmp_path, unique):
    process = ServerProcess(postgres.url, valkey.url, log=tmp_path / "server.log", settings={"AIKI_SHUTDOWN_DELAY_SECONDS": "1"})
    process.start()
    kept = http.client.HTTPConnection("127.0.0.1", process.port, timeout=10)
    said = []

    def start():
        kept.request("POST", "/api/v1/runs", json.dumps({"workflow": unique}), {"content-type": "application/json"})
        answer = kept.getresponse()
        answer.read()
        said.append((answer.status, answer.getheader("connection")))
        return said[-1][1] == "close"

    assert not start()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    wait_until(start, "an answer that closes its connection", seconds=5)
    kept.close()
    process.wait()
    assert {status for status, _ in said} == {201}


@pytest.mark.parametrize("fault", ["after_start_commit", "after_dispatch_commit"])
def test_a_start_that_was_committed_is_there_after_a_crash(process, unique, fault):
    process.start(fault=fault)
    body = {"workflow": unique, "version": "1", "pool": unique, "ref": unique}
    with pytest.raises((urllib.error.URLError, ConnectionError)):
        call(process, "/api/v1/runs", body)
    assert process.wait() == -9
    process.start()
    status, again = call(process, "/api/v1/runs", body)
    assert (status, again["created"]) == (200, False)


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "No tokens"),
        (["--insecure"], {"AIKI_HOST": "0.0.0.0"}, "loopback"),
        (["--insecure"], {}, "AIKI_DATABASE_URL"),
        (["migrate"], {}, "AIKI_DATABASE_URL"),
    ],
)
def test_what_cannot_work_ends_with_a_sentence(arguments, environment, message):
    done = subprocess.run([sys.executable, "-m", "aiki_server", *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_migrate_is_a_command_of_its_own(postgres):
    for _ in range(2):
        environment = {"AIKI_DATABASE_URL": postgres.url}
        done = subprocess.run(
            [sys.executable, "-m", "aiki_server", "migrate"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stderr.splitlines()[-1])["event"] == "migrated"


async def test_a_request_that_the_end_of_the_server_cuts_short_can_be_sent_again():
    begun, sent = asyncio.Event(), []

    async def app(scope, receive, send):
        begun.set()
        await asyncio.Event().wait()

    async def send(message):
        sent.append(message)

    edge = Edge(app, tokens=Tokens({}), origins=Origins(()), hot=Hot({}, {}), drain=lambda: None)
    request = asyncio.create_task(edge({"type": "http", "method": "GET", "path": "/api/v1/runs", "headers": []}, AsyncMock(), send))
    await begun.wait()
    request.cancel()
    await asyncio.wait([request])
    assert (request.cancelled(), sent[0]["status"]) == (True, 503)

"""Liveness and readiness tell the truth, metrics and logs tell no secret."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest

from aiki.shared.logs import JsonLines
from aiki.shared.redaction import Redactor
from aiki_operator.process import probes
from aiki_operator.reporting.telemetry import log_fields


class Operator:
    """What the probes ask."""

    def __init__(self) -> None:
        self.beat = time.monotonic()
        self.listed = False


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
async def url(operator: Operator) -> AsyncIterator[str]:
    runner = await probes.serve(0, last_beat=lambda: operator.beat, ready=lambda: operator.listed)
    port = next(address[1] for address in runner.addresses if address[0] == "0.0.0.0")  # IPv6 gets one of its own
    yield f"http://127.0.0.1:{port}"
    await runner.cleanup()


async def ask(url: str, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.get(url + path) as response:
        return response.status, await response.text()


async def test_alive_while_turns_end(url: str, operator: Operator) -> None:
    assert (await ask(url, "/livez"))[0] == 200
    operator.beat = time.monotonic() - probes.SILENT_SECONDS - 1
    status, text = await ask(url, "/livez")
    assert status == 503
    assert text.startswith("last turn ended 61")


async def test_ready_once_everything_is_listed(url: str, operator: Operator) -> None:
    assert await ask(url, "/readyz") == (503, "not ready\n")
    operator.listed = True
    assert await ask(url, "/readyz") == (200, "ready\n")


async def test_metrics_are_there(url: str) -> None:
    status, text = await ask(url, "/metrics")
    assert status == 200
    assert "aiki_operator_reconcile_seconds_bucket" in text


def record(message: str, **extra: object) -> logging.LogRecord:
    found = logging.makeLogRecord({"msg": message, "levelname": "INFO", "name": "aiki_operator"})
    vars(found).update(extra)
    return found


def test_log_is_a_line_of_json_with_its_fields() -> None:
    line = JsonLines(log_fields(Redactor())).format(record("worker lost", worker="w1", count=3))
    assert "\n" not in line
    found = json.loads(line)
    assert (found["event"], found["level"], found["worker"], found["count"]) == ("worker lost", "info", "w1", 3)


def test_log_has_no_objects_in_it() -> None:
    """A manifest given as a field might hold a Secret."""
    text = JsonLines(log_fields(Redactor())).format(
        record("applied", manifest={"data": "hunter2"}, all=[{"data": "hunter2"}], settings="hunter2", pods=["a", "b"])
    )
    assert "hunter2" not in text
    assert json.loads(text).items() >= {"manifest": "***", "all": "***"}.items()
    assert json.loads(text)["pods"] == ["a", "b"]


def test_error_keeps_its_stack() -> None:
    try:
        raise ValueError("broken")
    except ValueError as error:
        found = json.loads(
            JsonLines(log_fields(Redactor())).format(record("turn failed", exc_info=(type(error), error, error.__traceback__)))
        )
    assert found["traceback"].endswith("ValueError")
    assert all(part in found["traceback"] for part in (__file__, "test_error_keeps_its_stack"))

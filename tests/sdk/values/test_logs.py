"""One form of logs: whatever process of an installation writes a line, its fields have the same names in the same order."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from aiki.shared.logs import Fields, JsonLines
from aiki.shared.redaction import Redactor

PROGRAM = """
import logging
{set_up}
log = logging.getLogger("aiki.worker")
log.info("runs taken over", extra={{"run_id": "00ab", "attempt": 2, "late": None, "pods": ["a", "b"], "error": ValueError("secret")}})
try:
    raise ValueError("secret")
except ValueError:
    log.exception("turn failed", extra={{"loop": "sweeper"}})
logging.getLogger("shop").info("shipped %s", "o1")
"""
SET_UP = {
    "server": "from aiki_server.logs import configure; configure()",
    "worker": "from aiki.cli.logs import set_up; set_up()",
    "operator": "from aiki_operator.reporting.telemetry import log_json; log_json('info')",
}


def written(part: str) -> list[dict[str, Any]]:
    ran = subprocess.run([sys.executable, "-c", PROGRAM.format(set_up=SET_UP[part])], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in (ran.stderr + ran.stdout).splitlines()]


@pytest.mark.parametrize("part", SET_UP)
def test_every_part_writes_the_same_lines(part: str) -> None:
    taken, failed, shipped = written(part)
    assert list(taken) == ["timestamp", "level", "event", "logger", "run_id", "attempt", "late", "pods", "error"]
    assert list(taken.values())[1:] == ["info", "runs taken over", "aiki.worker", "00ab", 2, None, ["a", "b"], "ValueError"]
    assert list(failed) == ["timestamp", "level", "event", "logger", "loop", "traceback"]
    assert "ValueError" in failed["traceback"]
    assert "secret" not in failed["traceback"].replace('raise ValueError("secret")', "")
    assert list(shipped.values())[1:] == ["info", "shipped o1", "shop"]


@pytest.mark.parametrize(
    ("logger", "users", "whole"),
    [("shop", True, True), ("aiki.run", True, True), ("aiki.worker", True, False), ("asyncio", True, False), ("shop", False, False)],
)
def test_only_users_code_shows_what_its_errors_say(logger: str, users: bool, whole: bool) -> None:
    try:
        raise ValueError("four apples")
    except ValueError as error:
        record = logging.makeLogRecord({"msg": "failed", "name": logger, "exc_info": (type(error), error, error.__traceback__)})
    line = json.loads(JsonLines(Fields(Redactor(), users=users)).format(record))
    assert ("ValueError: four apples" in line["traceback"]) is whole

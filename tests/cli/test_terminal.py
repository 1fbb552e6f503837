"""Nothing that comes from outside is markup or an escape: a corpus of hostile text goes through every command and every field."""

from __future__ import annotations

import io
import json
import logging
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Group
from rich.table import Table
from typer.testing import CliRunner

from aiki.cli.app import build
from aiki.cli.dev.log_view import COLOURS, DevLog
from aiki.cli.logs import PersonFormatter
from aiki.cli.output.terminal import SafeConsole, json_text, one_line, printable
from aiki.client.transport import Reply, Transport
from aiki.errors import ApiError
from aiki.protocol import Problem
from aiki.shared.logs import Fields, JsonLines
from aiki.shared.redaction import Redactor
from support.server import ServerProcess

FIELDS = Fields(Redactor(), users=True)
HOSTILE = [
    "[/nothing]",
    "[link=http://evil]click[/link]",
    "[bold red]x :smile:",
    "\x1b[31mred",
    "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "\x1b]52;c;cm0gLXJm\x07",
    "\x1b]0;title\x07",
    "\x9b31m \x9d0;title\x9c \x85",
    "over\rwritten",
    "back\b\b\bspace \x7f \x00 \x0b \x0c",
    "\u202eright to left\u202c \u2066isolate\u2069 \u200f",
    "zero\u200bwidth\u200d\u2060\ufeff \u00ad \u180e",
    "two\u2028lines\u2029and more",
    "12:00:00.000 worker stopped\n12:00:01.000 forged",
    "tab\tbed",
    "\ud800 half",
    "\U000e0041\U000e0042 tags \ue000 private \u3164 filler",
]
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[lh]|\x1b\[\d*[AK]|\r")
"""What Rich itself writes: colours, and a live display's cursor."""
NOW = "2026-11-28T01:00:00Z"
ID = "0001a21fc15fdfccb618f686a65e7aec"


def visible(text: str) -> bool:
    return all(char == "\n" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in text)


def run_of(evil: str, status: str) -> dict[str, Any]:
    return {
        "id": ID, "workflow": evil, "version": evil, "pool": evil, "status": status, "ref": evil, "parent": evil, "steps": 1,
        "created_at": NOW, "updated_at": NOW, "finished_at": None, "due_at": NOW,
    }  # fmt: skip


def info_of(evil: str, status: str) -> dict[str, Any]:
    waits = [{"kind": kind, "name": evil, "child": evil, "attempt": 1, "due_at": None} for kind in ("sleep", "event", "child", "retry")]
    error = {"type": evil, "message": evil, "stack": evil, "retryable": True} if status == "failed" else None
    return run_of(evil, status) | {
        "build": evil, "input": {evil: evil}, "output": [evil], "error": error, "state": {evil: evil}, "waits": waits, "worker": evil,
        "epoch": 1, "cancel_requested": False, "pause_requested": False, "notice": evil, "started_at": NOW,
    }  # fmt: skip


def history_of(evil: str) -> dict[str, Any]:
    error = {"type": evil, "message": evil, "retryable": True}
    data: list[tuple[str, dict[str, Any]]] = [
        ("began", {}),
        *[("call", {"c": number, "a": evil, "l": evil}) for number in range(5)],
        ("done", {"c": 0, "v": evil}),
        ("attempt", {"c": 1, "n": 1, "e": error, "due": 1}),
        ("failed", {"c": 1, "e": error}),
        ("child_cancel_requested", {"c": 2}),
        (evil, {}),
        ("queued", {"by": "lost"}),
    ]
    entries = [
        {"seq": number, "kind": kind, "at": NOW, "epoch": 1 + number // 9, "worker": evil, "data": more}
        for number, (kind, more) in enumerate(data, 1)
    ]
    return {"entries": entries, "undelivered": [{"seq": 1, "name": evil, "payload": evil, "received_at": NOW}], "next": None}


def answer(path: str, evil: str, status: str) -> dict[str, Any]:
    match path.rpartition("/")[2]:
        case "runs":
            return {"runs": [run_of(evil, status)], "next": ID}
        case "history":
            return history_of(evil)
        case "events":
            return {"seq": 1, "created": True}
        case "result":
            return {"id": ID, "status": "completed", "output": {evil: evil}, "error": None}
        case "cancel" | "pause" | "resume" | "retry":
            return run_of(evil, status)
    return info_of(evil, status)


COMMANDS = [
    ("start", "flow", "--wait"),
    ("start", "flow"),
    ("runs",),
    ("show", ID),
    ("show", ID, "--watch"),
    ("send", ID, "go"),
    ("cancel", ID),
    ("pause", ID),
    ("resume", ID),
    ("retry", ID),
]


@pytest.fixture
def invoke(server: ServerProcess) -> Callable[..., str]:
    def invoked(*arguments: str, colour: bool) -> str:
        environment = {"AIKI_URL": server.url, "COLUMNS": "80", "FORCE_COLOR": "1" if colour else None, "TERM": "xterm-256color"}
        done = CliRunner().invoke(build(), arguments, env=environment, catch_exceptions=False)
        return done.stdout + done.stderr

    return invoked


def assert_harmless(text: str, *, colour: bool) -> None:
    for evil in HOSTILE:
        assert evil not in text or visible(evil)
    assert visible(OURS.sub("", text) if colour else text), repr(text)


@pytest.mark.parametrize(("colour", "as_json"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize(("command", "status"), [(command, "failed") for command in COMMANDS] + [(("show", ID), "waiting")])
def test_hostile_text_is_shown_and_not_obeyed(
    invoke: Callable[..., str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], status: str, colour: bool, as_json: bool
) -> None:
    for evil in HOSTILE:

        async def send(_self: Transport, method: str, path: str, *, evil: str = evil, **_: Any) -> Reply:
            started = {"id": ID, "created": True, "status": "queued", "version": None, "pool": None, "notice": evil}
            said = started if method == "POST" and path.endswith("/runs") else answer(path, evil, status)
            return Reply(200, json.dumps(said).encode())

        monkeypatch.setattr(Transport, "send", send)
        text = invoke(*command, *(["--json"] if as_json else []), colour=colour)
        assert "Traceback" not in text
        assert_harmless(text, colour=colour)


@pytest.mark.parametrize("status", ["failed", "waiting"])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_text_from_outside_begins_a_line_of_its_own(
    invoke: Callable[..., str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], status: str
) -> None:
    """Who writes a line break into a name, a ref, an error or a notice must not be able to write what looks like a line of ours."""
    if "--watch" in command and status != "failed":
        pytest.skip("what waits is watched for ever")
    evil = "x\nFORGED\r\nFORGED\x85FORGED\u2028FORGED\x0bFORGED"

    async def send(_self: Transport, method: str, path: str, **_: Any) -> Reply:
        started = {"id": ID, "created": True, "status": "queued", "version": None, "pool": None, "notice": evil}
        said = started if method == "POST" and path.endswith("/runs") else answer(path, evil, status)
        return Reply(200, json.dumps(said).encode())

    monkeypatch.setattr(Transport, "send", send)
    text = invoke(*command, colour=False)
    assert "FORGED" in text or command[0] == "send", text
    assert [line for line in text.splitlines() if line.lstrip().startswith("FORGED")] == []


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("status", [401, 404, 409, 422])
def test_hostile_errors_are_shown_and_not_obeyed(
    invoke: Callable[..., str], monkeypatch: pytest.MonkeyPatch, status: int, as_json: bool
) -> None:
    for evil in HOSTILE:

        async def send(*_: Any, evil: str = evil, **__: Any) -> Reply:
            raise ApiError(Problem(type=evil, title=evil, status=status, detail=evil, errors=[{"loc": [evil], "msg": evil}]))

        monkeypatch.setattr(Transport, "send", send)
        assert_harmless(invoke("show", ID, *(["--json"] if as_json else []), colour=False), colour=False)


@pytest.mark.parametrize("evil", HOSTILE)
@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("as_json", [False, True])
def test_hostile_lines_of_the_dev_log(evil: str, colour: bool, as_json: bool) -> None:
    out = io.StringIO()
    journal = DevLog(out, colour=colour and not as_json, as_json=as_json)
    fields = {"timestamp": evil, "level": evil, "event": evil, evil: evil, "labels": {evil: [evil]}, "traceback": evil}
    for part in COLOURS:
        journal.line(part, json.dumps(fields))
        journal.line(part, evil)
    rows = OURS.sub("", out.getvalue()).splitlines()
    assert_harmless(out.getvalue().replace("\t", " "), colour=colour)
    assert all(row.lstrip().startswith("{" if as_json else tuple(COLOURS)) for row in rows)


@pytest.mark.parametrize("evil", HOSTILE)
@pytest.mark.parametrize("formatter", [PersonFormatter(FIELDS, colour=True), PersonFormatter(FIELDS, colour=False), JsonLines(FIELDS)])
def test_hostile_records_of_the_worker_s_log(evil: str, formatter: logging.Formatter) -> None:
    record = logging.makeLogRecord({"msg": evil, "levelname": "ERROR", "name": evil, "label": evil, "more": {evil: evil}})
    line = formatter.format(record)
    assert "\n" not in line, "one record, one line"
    assert_harmless(line, colour=True)


def test_console_lets_nothing_through_whatever_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("[bold]head", "\x1b]0;x\x07")
    for evil in HOSTILE:
        table.add_row(evil, evil)
    console = SafeConsole()
    console.print(table, Group(*HOSTILE), *HOSTILE)
    for evil in HOSTILE:
        console.print(evil, style="red")
    out = capsys.readouterr().out
    assert visible(out)
    assert "[/nothing]" in out


def test_letters_of_all_scripts_are_printed_as_they_are() -> None:
    text = "Zoë Łódź Ωμέγα Привет 日本語 العربية עברית 한국어 ไทย 😀 e\u0301 a\u00a0b"
    assert printable(text) == one_line(text) == text
    assert json_text(text, encoding="utf-8") == f'"{text}"'


@given(st.recursive(st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
def test_json_means_what_it_meant_and_can_be_printed(encoding: str, value: object) -> None:
    text = json_text(value, encoding=encoding)
    assert json.loads(text) == value
    assert visible(text)
    text.encode(encoding)

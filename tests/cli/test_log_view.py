"""The log of `aiki dev`: whose line it is, and structured lines spelled out."""

from __future__ import annotations

import io
import json

from aiki.cli.dev.log_view import DevLog


def written(text: str, *, as_json: bool = False, colour: bool = False) -> str:
    out = io.StringIO()
    DevLog(out, colour=colour, as_json=as_json).line("worker", text)
    return out.getvalue()


def test_plain_line_keeps_its_text_behind_the_prefix() -> None:
    assert written("hello") == "worker │ hello\n"


def test_lone_surrogate_of_a_log_line_is_shown_escaped() -> None:
    for as_json in (True, False):
        assert "half \\ud800" in written(json.dumps({"event": "half \ud800"}), as_json=as_json).encode().decode()


def test_structured_line_shows_event_and_fields() -> None:
    line = written('{"event": "run finished", "level": "info", "run_id": "00ab", "steps": 3}')

    assert line.endswith("run finished  run_id=00ab  steps=3\n")


def test_traceback_of_a_structured_line_is_shown_line_by_line() -> None:
    line = written(json.dumps({"event": "task failed", "traceback": "Traceback:\n  ValueError"}))

    assert line.splitlines()[1:] == ["worker │ Traceback:", "worker │   ValueError"]


def test_json_log_is_one_object_a_line_with_its_part() -> None:
    assert json.loads(written("print", as_json=True)) == {"part": "worker", "event": "print"}
    assert json.loads(written('{"event": "e", "n": 1}', as_json=True)) == {"part": "worker", "event": "e", "n": 1}


def test_text_that_only_looks_like_json_is_left_as_it_is() -> None:
    assert written("{not json}") == "worker │ {not json}\n"


def test_no_escape_codes_without_a_terminal() -> None:
    assert "\x1b" not in written('{"event": "e", "level": "error"}')
    assert "\x1b[31m" in written('{"event": "e", "level": "error"}', colour=True)

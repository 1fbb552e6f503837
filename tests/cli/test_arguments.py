"""JSON arguments, and modules to workflows: what is wrong is said with what to type instead."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aiki.cli.exit_codes import Exit, Failure
from aiki.cli.loading import Carried, load_workflows
from aiki.cli.options import json_argument
from aiki.definitions.workflow import VersionDefinition, WorkflowDefinition

TWO_WORKFLOWS = """
from aiki import workflow
from math import pi
first = workflow("first")
second = workflow("second")
both = [first, second]
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, entered, that may be imported from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_json_comes_from_the_argument_a_file_or_standard_input(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "input.json").write_text('{"a": 1}')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[1]")))

    assert [json_argument(text, what="input") for text in ('"x"', "@input.json", "-", None)] == ["x", {"a": 1}, [1], None]


def test_bare_word_is_told_to_be_quoted() -> None:
    with pytest.raises(Failure, match="not JSON") as raised:
        json_argument("hello", what="payload")

    assert raised.value.code is Exit.USAGE
    assert raised.value.hint is not None
    assert "'\"text\"'" in raised.value.hint
    assert "hello" not in raised.value.hint  # it may be a secret, and a script's standard error is kept


def test_missing_file_is_named(project: Path) -> None:
    with pytest.raises(Failure, match=r"nowhere\.json"):
        json_argument("@nowhere.json", what="input")


def names(target: str) -> list[str]:
    return [carried.name if isinstance(carried, WorkflowDefinition) else carried.workflow for carried in load_workflows(target)]


def versions(carried: list[Carried]) -> Iterator[VersionDefinition[Any, Any]]:
    for one in carried:
        yield from one.versions.values() if isinstance(one, WorkflowDefinition) else [one]


def test_all_workflows_of_a_module_are_found(project: Path) -> None:
    (project / "two_flows.py").write_text(TWO_WORKFLOWS)

    assert names("two_flows") == ["first", "second"]


def test_attribute_may_be_one_workflow_or_a_list(project: Path) -> None:
    (project / "flows_of_two.py").write_text(TWO_WORKFLOWS)

    assert names("flows_of_two:second") == ["second"]
    assert names("flows_of_two:both") == ["first", "second"]


LIBRARY = """
from aiki import Run, workflow
first = workflow("first")

@first.v("1.0")
async def first_v1(run: Run) -> None: ...

@workflow("imported").v("1")
async def imported_v1(run: Run) -> None: ...
"""
USES_IT = """
from aiki import Run, workflow
from library import first as theirs, imported_v1
first = workflow("first")

@first.v("VERSION")
async def first_v2(run: Run) -> None: ...

@workflow("lone").v("1")
async def lone_v1(run: Run) -> None: ...
"""


def test_two_definitions_of_one_workflow_are_both_carried(project: Path) -> None:
    (project / "library.py").write_text(LIBRARY)
    (project / "uses_it.py").write_text(USES_IT.replace("VERSION", "2.0"))

    found = [f"{v.workflow} {v.version}" for v in versions(load_workflows("uses_it"))]
    assert found == ["first 1.0", "first 2.0", "lone 1"]
    assert list(map(repr, load_workflows("uses_it:imported_v1"))) == ["<workflow imported 1>"]


def test_what_no_worker_can_carry_is_usage_with_both_places(project: Path) -> None:
    (project / "library.py").write_text(LIBRARY)
    (project / "twice.py").write_text(USES_IT.replace("VERSION", "1.0"))

    ended = subprocess.run([sys.executable, "-m", "aiki.cli", "worker", "twice"], capture_output=True, text=True, check=False, timeout=60)

    assert ended.returncode == Exit.USAGE
    assert "two of workflow first 1.0" in ended.stderr
    assert "library.py:5" in ended.stderr
    assert "twice.py:6" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [("no_such_module", "no module no_such_module"), ("empty_flows", "defines no workflow"), ("empty_flows:third", "has no third")],
)
def test_what_cannot_be_found_is_usage(project: Path, target: str, message: str) -> None:
    (project / "empty_flows.py").write_text("x = 1\n")

    with pytest.raises(Failure, match=message) as raised:
        load_workflows(target)

    assert raised.value.code is Exit.USAGE


def test_error_in_the_module_is_shown_from_the_users_own_line_on(project: Path) -> None:
    (project / "broken_flows.py").write_text("import json\n\njson.loads('{')\n")

    with pytest.raises(Failure, match="broken_flows cannot be imported") as raised:
        load_workflows("broken_flows")

    frames = [line for line in raised.value.message.splitlines() if line.startswith("  File")]
    assert "broken_flows.py" in frames[0]
    assert "line 3" in frames[0]


def test_module_that_the_users_module_lacks_is_named(project: Path) -> None:
    (project / "lacking_flows.py").write_text("import surely_not_installed\n")

    with pytest.raises(Failure, match="surely_not_installed"):
        load_workflows("lacking_flows")

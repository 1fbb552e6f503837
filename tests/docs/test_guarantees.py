"""docs/guarantees.md defines every number that the repository names, and each promise on it is checked by functions that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guarantees.md").read_text()
FOLDERS = ("sdk", "server", "operator", "tests", "docs", "charts", "crds", "benchmarks", "examples", ".ci", ".github")
KINDS = {".py", ".md", ".sql", ".toml", ".yaml", ".yml", ".json", ".tpl", ".sh", ".txt", ""}
ONLY_A_CLUSTER_SHOWS = {"S43"}

DEFINED = re.findall(r'<a id="([sliw]\d+)"></a>([SLIW]\d+)\b', PAGE)
NOT_YET = set(re.findall(r"</a>([SLIW]\d+)", PAGE.partition("\n## Not promised yet\n")[2].partition("\n## ")[0]))
PROMISED = {number for _, number in DEFINED if number[0] != "W"} - NOT_YET
CHECKS = {
    number: re.findall(r"`([^`]+)`", names)
    for number, names in re.findall(r"^\* \*\*([SLIW]\d+)\*\*: (.+)$", PAGE.partition("\n## What checks each of them\n")[2], re.MULTILINE)
}


def numbers(text: str) -> set[str]:
    """The numbers that a text names; `S12-S15` names four."""
    found: set[str] = set()
    for kind, first, last in re.findall(r"\b([SLIW])([1-9]\d?)(?:[-–][SLIW]?([1-9]\d?))?\b", text):
        found |= {f"{kind}{number}" for number in range(int(first), int(last or first) + 1)}
    return found


def sources() -> Iterator[Path]:
    """What people wrote: no caches, no environments, and nothing that a tool makes."""
    yield from ROOT.glob("*.md")
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            hidden = any(part.startswith(".") or part == "__pycache__" for part in path.relative_to(ROOT / folder).parts)
            if path.is_file() and path.suffix in KINDS and not hidden:
                yield path


@cache
def functions(path: Path) -> dict[str, str]:
    """The names of a file's functions and methods, each with its docstring."""
    if not path.is_file():
        return {}
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name: ast.get_docstring(node) or "" for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_no_number_is_defined_twice_and_each_has_its_own_anchor() -> None:
    assert len({number for _, number in DEFINED}) == len(DEFINED)
    assert [anchor for anchor, number in DEFINED if anchor != number.lower()] == []


def test_every_number_from_the_first_to_the_last_is_defined() -> None:
    """Nobody drops a guarantee silently: a number that is not promised any more stays, under "Not promised yet"."""
    taken = sorted(int(number[1:]) for _, number in DEFINED if number[0] != "W")

    assert taken == list(range(1, 47))


def test_every_number_that_the_repository_names_is_defined() -> None:
    defined = {number for _, number in DEFINED}
    unknown = {
        f"{path.relative_to(ROOT)} names {number}"
        for path in sources()
        if path.suffix != ".sum"
        for number in numbers(path.read_text(errors="ignore")) - defined
    }

    assert unknown == set(), "docs/guarantees.md does not define these numbers. Correct them, or define them there"


def test_every_promise_and_every_workload_says_what_checks_it() -> None:
    workloads = {number for _, number in DEFINED if number[0] == "W"}

    assert CHECKS.keys() == PROMISED | workloads


@pytest.mark.parametrize("number", CHECKS)
def test_what_checks_a_guarantee_exists(number: str) -> None:
    missing = [name for name in CHECKS[number] if name.partition("::")[2] not in functions(ROOT / name.partition("::")[0])]

    assert missing == [], "docs/guarantees.md names these, and there is no such function. Name the one that has taken its place"


def test_every_test_that_names_a_guarantee_is_on_the_page() -> None:
    named = {
        (number, f"{path.relative_to(ROOT)}::{name}")
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for name, docstring in functions(path).items()
        if name.startswith("test_")
        for number in numbers(docstring) & PROMISED
    }
    there = {(number, name) for number, names in CHECKS.items() for name in names}

    assert sorted(named - there) == [], 'add these under "What checks each of them" in docs/guarantees.md'


def test_every_promise_has_a_planted_breach() -> None:
    tables = [tomllib.loads(path.read_text()) for path in (ROOT / "tests/planted/breaches").glob("*.toml")]
    broken = {breach["guarantee"] for table in tables for breach in table["breach"]}

    assert PROMISED - broken == ONLY_A_CLUSTER_SHOWS
    assert broken <= PROMISED


def test_nothing_points_to_the_list_that_this_page_replaced() -> None:
    former = "INVARIANTS" + ".md"

    assert [str(path.relative_to(ROOT)) for path in sources() if former in path.read_text(errors="ignore")] == []

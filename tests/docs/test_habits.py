"""What CONTRIBUTING promises of the tests: they wait for conditions, and share what they share in tests/support."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
SLEEPS = {
    "support/waiting.py": "the one place that looks again after a moment",
    "support/sdk/asyncio_programs.py::Program": "what a workflow does: its clock is virtual",
    "support/interleaving.py::interleave": "gives Postgres, another process, a moment to answer the statement that was let through",
    "faults/soak": "a load, and faults, at random moments: it runs for as long as it is told, and asserts afterwards",
    "security/attackers.py::_again_and_again": "an attack has a rate",
    "security/fuzz.py::_watch": "samples the memory of another process while requests are sent",
    "security/hostile.py::_pass": "what is measured is how many starts a stretch of time has room for",
    "security/probed.py::_probe": "samples how long the server's loop is held",
    "security/tenant.py::Tenant": "a worker that lives for a moment, beside everything else",
    "security/tenants.py::_read_streams": "samples the streams for as long as the attack lasts",
    "e2e/cluster": "a program of its own, without pytest",
    "e2e/service.py::steady": "a load has a rate",
    "e2e/test_07_faults.py::Watched": "samples sizes",
    "e2e/test_07_faults.py::test_an_idle_pool_is_held_while_its_load_is_not_known": "nothing may happen for that long",
    "e2e/test_10_rights.py::_use_what_is_rare": "Kubernetes counts an event up no more often than that",
    "e2e/test_11_many.py::test_two_hundred_pools_are_cheap": "measures what a stretch of time costs",
}
"""Where time itself is what is meant, and why. A file, a folder, or a function or class of a file."""
WORTH_SHARING = 12
"""Nodes of a function's syntax tree: a little more than one call in one line."""


def sleeps(path: Path) -> Iterator[str]:
    """Where a file lets time go by, by the function or class. Code of users may: a workflow's clock is virtual, and a task takes time."""
    for top in ast.parse(path.read_text()).body:
        if not _is_users_code(top) and any(_sleeps(node) for node in _nodes(top)):
            yield f"{path.relative_to(TESTS)}::{getattr(top, 'name', '')}"


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not _is_users_code(child):
            yield from _nodes(child)


def _is_users_code(node: ast.AST) -> bool:
    """Whether it is a task, or a function that is given a run."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any("task" in ast.unparse(one) for one in node.decorator_list):
        return True
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and any(one.arg == "run" for one in node.args.args)


def _sleeps(node: ast.AST) -> bool:
    """Whether it is `await asyncio.sleep(…)` or `time.sleep(…)`; `sleep(0)` is a turn of the event loop."""
    awaited = isinstance(node, ast.Await)
    call = node.value if isinstance(node, ast.Await) else node
    if not isinstance(call, ast.Call) or ast.unparse(call.func) != ("asyncio.sleep" if awaited else "time.sleep"):
        return False
    return not (call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0)


def judged(place: str) -> list[str]:
    """The exceptions under which it falls."""
    file = place.partition("::")[0]
    return [name for name in SLEEPS if name in (place, file) or file.startswith(f"{name}/")]


def test_no_test_sleeps() -> None:
    places = [place for path in sorted(TESTS.rglob("*.py")) for place in sleeps(path)]

    assert [place for place in places if not judged(place)] == [], "wait for a condition: support/waiting.py has `until` and `wait_until`"
    assert {name for place in places for name in judged(place)} == SLEEPS.keys(), "an exception that nobody needs any more has to go"


def test_no_helper_is_written_twice() -> None:
    """Two files that have the same function, whatever its name: it belongs into tests/support."""
    places = defaultdict(set)
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if sum(1 for one in body for _ in ast.walk(one)) >= WORTH_SHARING:
                    places[ast.dump(node.args), "".join(map(ast.dump, body))].add(f"{path.relative_to(TESTS)}::{node.name}")

    again = [found for found in places.values() if len({name.partition("::")[0] for name in found}) > 1]
    assert again == [], "move it to tests/support"


def test_helpers_live_in_support() -> None:
    assert [path.name for path in TESTS.glob("*.py")] == ["conftest.py"]


def test_the_map_names_every_folder_and_every_module_that_is_shared() -> None:
    page = (TESTS / "README.md").read_text()
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and not path.name.startswith(("_", "."))}
    shared = {path.name for path in (TESTS / "support").glob("*.py")}

    assert [name for name in sorted(folders) if f"| `{name}/`" not in page] == []
    assert [name for name in sorted(shared) if f"`{name}`" not in page] == []

"""Runs mutmut over pure modules with the tests that are to kill their mutants, in a copy of the tree, and prints which live.

`make mutants MODULE=engine/commit/transitions.py`, or without for all of them; `mutants.toml` says which tests concern which module. mutmut forks per mutant
and stops at the first test that fails, so tests without a database and without laws of seconds make thousands of mutants a matter of minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from planted.tree import PACKAGES, ROOT

TABLE = Path(__file__).with_name("mutants.toml")
NO_CALLERS = """
from mutmut.core import MutmutCallStack
MutmutCallStack.set = MutmutCallStack.reset = lambda _: None
"""
"""mutmut notes who called whom in a context variable; Python crashes on it in code that runs in contexts of its own, and nothing here asks for it."""
KILLED = ("killed", "timeout", "suspicious")


@dataclass(frozen=True, slots=True)
class Group:
    """Modules of one package, by their paths in it, and the tests that are to notice their mutants."""

    modules: tuple[str, ...]
    tests: tuple[str, ...]


def main() -> int:
    """Run, and report; 1 where one lives."""
    parser = argparse.ArgumentParser(prog="planted.mutants", description="Mutants of the pure modules, and whether the tests notice them.")
    parser.add_argument("modules", nargs="*", help="ends of the modules' paths, such as engine/commit/transitions.py; all without")
    chosen = parser.parse_args()
    groups = [group for group in map(partial(_chosen, tuple(chosen.modules)), _groups()) if group.modules]
    if not groups:
        sys.exit(f"{TABLE.name} has no module {' '.join(chosen.modules)}: add it, with the tests that concern it.")
    alive = 0
    for group in groups:
        home = Path(tempfile.mkdtemp(prefix="aiki-mutants-"))
        try:
            alive += _try(group, home)
        finally:
            shutil.rmtree(home, ignore_errors=True)
    return 1 if alive else 0


def _groups() -> list[Group]:
    return [Group(tuple(group["modules"]), tuple(group["tests"])) for group in tomllib.loads(TABLE.read_text())["group"]]


def _chosen(wanted: tuple[str, ...], group: Group) -> Group:
    return Group(tuple(module for module in group.modules if not wanted or module.endswith(wanted)), group.tests)


def _try(group: Group, home: Path) -> int:
    """How many of their mutants live."""
    _copy(group, home)
    path = os.pathsep.join((str(home / "mutants"), str(home / "mutants" / "tests")))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    tool = str(Path(sys.executable).with_name("mutmut"))
    ran = subprocess.run([tool, "run"], cwd=home, env=environment, capture_output=True, text=True, check=False)
    results = subprocess.run(
        [tool, "results", "--all", "true"], cwd=home, env=environment, capture_output=True, text=True, check=False
    ).stdout
    found = [(name, state) for name, state in re.findall(r"^\s+(\S+): (.+)$", results, re.MULTILINE)]
    if not found or any(state == "not checked" for _, state in found):
        sys.exit(f"mutmut did not come to an end over {', '.join(group.modules)}:\n{(ran.stdout + ran.stderr)[-3000:]}")
    for name, state in found:
        if state not in KILLED:
            shown = subprocess.run([tool, "show", name], cwd=home, env=environment, capture_output=True, text=True, check=False).stdout
            print(f"---- {state}: {name}\n" + "\n".join(line for line in shown.splitlines() if line.startswith(("-", "+", "@"))))
    for module in group.modules:
        start = module.removesuffix(".py").replace("/", ".") + "."
        counts = Counter(state for name, state in found if name.startswith(start))
        told = ", ".join(f"{number} {state}" for state, number in counts.most_common())
        print(f"{module}: {counts.total()} mutants, {told}", flush=True)
    return sum(state not in KILLED for _, state in found)


def _copy(group: Group, home: Path) -> None:
    """The packages side by side, as mutmut wants them, and what it is to do."""
    (home / "mutants" / "tests").mkdir(parents=True)  # a folder of PYTHONPATH that is not there when Python starts is never looked into
    for package, folder in PACKAGES.items():
        shutil.copytree(ROOT / folder / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", home / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    with (home / "tests" / "conftest.py").open("a") as file:
        file.write(NO_CALLERS)
    wanted = [
        "[tool.mutmut]",
        f"source_paths = {[group.modules[0].split('/')[0]]}",
        f"only_mutate = {list(group.modules)}",
        f"pytest_add_cli_args_test_selection = {list(group.tests)}",
        'pytest_add_cli_args = ["-p", "no:cacheprovider"]',
        f"also_copy = {[*PACKAGES, 'tests']}",
    ]
    (home / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + "\n" + "\n".join(wanted) + "\n")


if __name__ == "__main__":
    sys.exit(main())

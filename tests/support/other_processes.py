"""Processes with another hash seed, and other versions of Python, that do the same: one lives as long as a test needs it.

Another version gets a virtual environment of its own, below `.venv/pythons`, with what the SDK needs, the first time that it is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parents[2]
ENVIRONMENTS = ROOT / ".venv" / "pythons"
VERSIONS = ("3.12", "3.13")


class OtherProcess:
    """Answers one line of JSON to each, by the `main` of a module below `tests/`."""

    def __init__(self, module: str, *, hash_seed: int, python: str = sys.executable) -> None:
        environment = os.environ | {"PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": f"{ROOT / 'tests'}:{ROOT / 'sdk'}"}
        self._process = subprocess.Popen(
            [python, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
        )

    def ask(self, question: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the process ended with {self._process.wait(10)}"
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)


def answer_all(answer: Any) -> None:
    """The other side of `ask`: `answer` makes of each question its answer."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


@cache
def python_of(version: str) -> tuple[str | None, str]:
    """An interpreter of another version that can import the SDK, or None with the reason."""
    ready = ENVIRONMENTS / version / "bin" / "python"
    if not ready.exists():
        found = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        python = str(found[-1]) if found else shutil.which(f"python{version}")
        if python is None:
            return None, f"no Python {version} is installed"
        made = _make(python, ENVIRONMENTS / version)
        if made is not None:
            return None, made
    return str(ready), ""


def _make(python: str, folder: Path) -> str | None:
    needs = tomllib.loads((ROOT / "sdk" / "pyproject.toml").read_text())["project"]["dependencies"]
    half = folder.with_name(f"{folder.name}-{os.getpid()}")
    for command in ([python, "-m", "venv", str(half)], [str(half / "bin" / "pip"), "install", "--quiet", *needs]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            shutil.rmtree(half, ignore_errors=True)
            return f"{' '.join(command)} said: {done.stderr[-300:]}"
    if folder.exists():  # another process was faster
        shutil.rmtree(half)
    else:
        half.rename(folder)
    return None

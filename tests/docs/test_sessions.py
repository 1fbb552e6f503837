"""README, the example and the first workflow, typed word by word: each shell command exits with 0, in the order in which it is told.

What stays (`aiki dev`, the mail server) is left running until the end. Ports come from the environment, so that nothing is in use.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree

import pytest

from docs.conftest import staying

ROOT = Path(__file__).parents[2]
STAYS = ("aiki dev", "python mailserver.py")
SKIPPED = ("make ", "source ", "cd ", "pip install")
"""CI runs make (see test_commands.py); the rest makes a place that the test has already."""


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(path: Path) -> list[str]:
    lines = [line.partition("  #")[0].strip() for block in blocks(path, "sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith(SKIPPED)]


def type_all(lines: list[str], *, folder: Path, shell: Mapping[str, str]) -> list[str]:
    """What the commands that end have printed."""
    printed = []
    with ExitStack() as stack:
        for line in lines:
            if line.startswith(STAYS):
                stack.enter_context(staying(line, folder=folder, shell=shell))
                continue
            answer = subprocess.run(["bash", "-c", line], cwd=folder, env=shell, capture_output=True, text=True, check=False, timeout=60)
            assert answer.returncode == 0, f"$ {line}\n{answer.stdout}{answer.stderr}"
            printed.append(answer.stdout)
    return printed


@pytest.mark.timeout(120)
def test_what_readme_types_works(tmp_path: Path, shell: Mapping[str, str]) -> None:
    (tmp_path / "hello.py").write_text(blocks(ROOT / "README.md", "python")[0])

    started, shown, waited = type_all(commands(ROOT / "README.md"), folder=tmp_path, shell=shell)

    assert len(started.strip()) == 32
    assert "greeting 1.0" in shown
    assert waited.strip() == '"Hello, Ann!"'


@pytest.mark.timeout(120)
def test_what_the_page_of_the_example_types_works(tmp_path: Path, shell: Mapping[str, str]) -> None:
    page = ROOT / "docs/start/example.md"
    copytree(ROOT / "examples/onboarding", tmp_path / "onboarding")

    started, shown, *_ = type_all(commands(page), folder=tmp_path / "onboarding", shell=shell)

    assert len(started.strip()) == 32
    assert "user-onboarding 1.0" in shown
    assert all(block in (ROOT / "examples/onboarding/workflows.py").read_text() for block in blocks(page, "python"))


@pytest.mark.timeout(120)
def test_what_getting_started_types_works(tmp_path: Path, shell: Mapping[str, str]) -> None:
    page = ROOT / "docs/start/first-workflow.md"
    (tmp_path / "orders.py").write_text(blocks(page, "python")[0])

    *_, output = type_all(commands(page), folder=tmp_path, shell=shell)

    assert output.strip() == '"receipt-o1, packed by Kim"'


def test_test_of_getting_started_passes(tmp_path: Path) -> None:
    page = blocks(ROOT / "docs/start/first-workflow.md", "python")
    (tmp_path / "orders.py").write_text(page[0])
    (tmp_path / "test_orders.py").write_text(page[1])

    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_mode=auto",
        "--rootdir",
        ".",
        "test_orders.py",
    ]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert answer.returncode == 0, answer.stdout


@pytest.mark.timeout(120)
def test_api_document_is_where_dev_says(tmp_path: Path, shell: Mapping[str, str]) -> None:
    (tmp_path / "orders.py").write_text(blocks(ROOT / "docs/start/first-workflow.md", "python")[0])

    with staying("aiki dev orders", folder=tmp_path, shell=shell):
        said = re.search(r"API: (\S+?)\)", (tmp_path / "dev.log").read_text())
        assert said is not None
        with urllib.request.urlopen(said[1], timeout=5) as answer:
            assert answer.status == 200

        token = {"AIKI_TOKEN": (tmp_path / ".aiki/token").read_text().strip()}
        (listed,) = type_all(commands(ROOT / "docs/reference/http.md"), folder=tmp_path, shell={**shell, **token})
        assert json.loads(listed) == {"runs": [], "next": None}

"""README and getting started, typed word by word: each shell command exits with 0, in the order in which it is told.

What stays (`aiki dev`, the mail server) is left running until the end. Ports come from the environment, so that nothing is in use.
"""

from __future__ import annotations

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
    """But for those of the cluster, which `make e2e` types."""
    page, _, rest = path.read_text().partition("\n## On Kubernetes")
    text = page + rest.partition("\n## ")[2]
    blocks_ = re.findall(r"^```sh\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line.partition("  #")[0].strip() for block in blocks_ for line in block.splitlines()]
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
    copytree(ROOT / "examples/onboarding", tmp_path / "onboarding")

    lines = commands(ROOT / "README.md")
    started, shown, *_ = type_all(lines, folder=tmp_path / "onboarding", shell=shell)

    assert len(started.strip()) == 32
    assert "user-onboarding 1.0" in shown


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

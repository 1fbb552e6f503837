"""What README tells people to type is what CI runs, and what exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/*.md"), *ROOT.glob(".github/*.md")])


def shell_lines(path: Path) -> list[str]:
    """The lines of the fenced sh blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def test_manifest_of_the_documents_is_the_example_s() -> None:
    manifest = (ROOT / "examples/onboarding/workerpool.yaml").read_text()

    assert all(
        f"```yaml\n{manifest}```" in (ROOT / page).read_text() for page in ("docs/start/kubernetes.md", "docs/operate/kubernetes.md")
    )


def made_by_ci() -> set[str]:
    return {line.strip() for line in (ROOT / ".ci/run").read_text().splitlines() if line.strip().startswith("make ")}


def test_make_commands_of_readme_are_run_by_ci() -> None:
    told = {line for line in shell_lines(ROOT / "README.md") if line.startswith("make ")}

    assert told == {"make setup", "make demo"}
    assert told <= made_by_ci()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_in_docs_exist(path: Path) -> None:
    known = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

    assert set(re.findall(r"(?:`|^)make ([a-z0-9-]+)", path.read_text(), flags=re.MULTILINE)) <= known


@pytest.mark.parametrize("path", DOCS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())

    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_make_target_has_a_line_of_help() -> None:
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert all(f"make {target}" in shown for target in ("demo", "test", "check", "bench"))


def test_files_that_the_map_names_exist() -> None:
    named = re.findall(r"`((?:sdk|server|operator|tests|examples|docs)/[^`*{ ]+)`", (ROOT / "ARCHITECTURE.md").read_text())

    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []

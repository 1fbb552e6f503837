"""What ARCHITECTURE promises of the code's folders: each is one idea, says which, has room, and is found on the map."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "sdk/aiki", ROOT / "server/aiki_server", ROOT / "operator/aiki_operator"]
FOLDERS = sorted(path.parent for package in PACKAGES for path in package.rglob("__init__.py"))
MAP = (ROOT / "ARCHITECTURE.md").read_text()
MOST_FILES = 12
LEAST_WORDS = 7


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_folder_has_room_and_says_what_it_is_for(folder: Path) -> None:
    assert len(list(folder.glob("*.py"))) <= MOST_FILES, "a folder is one idea: this one has become two"
    if folder not in PACKAGES:
        said = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
        assert len(said.split()) >= LEAST_WORDS, "__init__.py says what the folder is for"


@pytest.mark.parametrize("folder", [folder for folder in FOLDERS if folder not in PACKAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_every_folder_is_on_the_map(folder: Path) -> None:
    assert re.search(rf"`(?:[\w/]+/)?{folder.name}/?`", MAP)


def test_every_module_is_in_a_folder_that_is_a_package() -> None:
    assert [path for package in PACKAGES for path in package.rglob("*.py") if path.parent not in FOLDERS] == []

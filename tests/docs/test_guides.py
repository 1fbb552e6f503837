"""The Python on the pages of docs/, run as it stands there.

The fences of a page are one module, in the order in which they stand; a fence with `title="name.py"` goes to a file of that name instead.
Whatever the page calls `test_…` is run by pytest, so a guide ends with the test that shows what it says.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

from docs.conftest import ROOT, python

ELSEWHERE = {"start/first-workflow.md", "start/example.md", "how-to/embedding.md"}
"""test_sessions.py and test_embedding.py run these."""
SETTINGS = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"


PAGES = [page for page in sorted(ROOT.glob("docs/**/*.md")) if str(page.relative_to(ROOT / "docs")) not in ELSEWHERE and python(page)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    for name, code in python(page).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    (tmp_path / "pytest.ini").write_text(SETTINGS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]

    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    told = answer.stdout + answer.stderr
    assert answer.returncode == 0, told
    assert re.search(r"\d passed", told), "the page shows nothing: end it with a test"


@pytest.mark.timeout(240)
def test_python_of_the_pages_has_no_type_errors(tmp_path: Path) -> None:
    """Of all pages at once: the names of their files are of one folder."""
    code = tmp_path / "code"
    code.mkdir()
    for page in PAGES:
        for name, text in python(page).items():
            (code / name).write_text(text)

    out, err, status = api.run(["--strict", "--config-file", "/dev/null", "--cache-dir", str(tmp_path / "cache"), str(code)])

    assert status == 0, out + err

"""Arguments are typed through: a wrong call of a task or workflow is a type error."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

SNIPPET = Path(__file__).parent / "typing" / "snippet.py"
ROOT = Path(__file__).parents[3]


@pytest.mark.timeout(180)
def test_wrong_calls_are_type_errors_and_right_ones_are_not(tmp_path: Path) -> None:
    out, err, status = api.run(["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path), str(SNIPPET)])
    assert status == 0, out + err

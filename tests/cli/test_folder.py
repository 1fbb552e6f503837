"""One `aiki dev` at a time in a folder; a killed one leaves no lock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aiki.cli.dev.folder import held, sign
from aiki.cli.exits import Exit, Failure

HOLD = """
import sys, time
from pathlib import Path
from aiki.cli.dev.folder import held, sign
with held(Path(sys.argv[1])):
    sign(Path(sys.argv[1]), port=1)
    print("held", flush=True)
    sys.stdin.read()
"""


def test_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with held(tmp_path / ".aiki") as folder:
        sign(folder, port=1)
        with pytest.raises(Failure) as raised, held(folder):
            pytest.fail("two hold it")

    assert raised.value.code is Exit.CONFLICT
    assert "http://localhost:1" in raised.value.message


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()

    with held(tmp_path) as folder:
        sign(folder, port=2)
        assert json.loads((folder / "lock").read_text())["url"] == "http://localhost:2"


def test_data_is_kept_out_of_version_control(tmp_path: Path) -> None:
    with held(tmp_path / ".aiki") as folder:
        assert (folder / ".gitignore").read_text().splitlines()[-1] == "*"


def test_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Failure, match="Cannot write"), held(tmp_path / "file" / ".aiki"):
        pytest.fail("held")

"""One `aiki dev` at a time in a folder; a killed one leaves no lock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aiki.cli.dev.folder import held, sign
from aiki.cli.exit_codes import Exit, Failure
from aiki.client.credentials import local_token
from aiki_server.local.folders import kept_secret

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
    assert "http://127.0.0.1:1" in raised.value.message


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        holder.kill()

    with held(tmp_path) as folder:
        sign(folder, port=2)
        assert json.loads((folder / "lock").read_text())["url"] == "http://127.0.0.1:2"


def test_data_is_kept_out_of_version_control(tmp_path: Path) -> None:
    with held(tmp_path / ".aiki") as folder:
        assert (folder / ".gitignore").read_text().splitlines()[-1] == "*"


def test_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Failure, match="Cannot write"), held(tmp_path / "file" / ".aiki"):
        pytest.fail("held")


def test_link_in_the_folder_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    """A repository that somebody else has made may bring a folder with it."""
    mine = tmp_path / "mine"
    mine.write_text("precious")
    (tmp_path / ".aiki").mkdir()
    for name in (".gitignore", "token"):
        (tmp_path / ".aiki" / name).symlink_to(mine)
    with held(tmp_path / ".aiki") as folder:
        sign(folder, port=1)
    assert mine.read_text() == "precious"
    (tmp_path / ".aiki" / "lock").unlink()
    (tmp_path / ".aiki" / "lock").symlink_to(mine)
    with pytest.raises(Failure, match="Cannot write"), held(tmp_path / ".aiki"):
        pytest.fail("held")


@pytest.mark.parametrize("pid", [0, -1])
def test_token_whose_process_is_a_group_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pid: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "nothing"))
    with held(tmp_path / ".aiki") as folder:
        token = sign(folder, port=1)
        assert local_token("http://127.0.0.1:1") == token
        (folder / "lock").write_text(json.dumps({"pid": pid, "url": "http://127.0.0.1:1"}))
        assert local_token("http://127.0.0.1:1") is None


def test_secret_of_a_start_that_was_killed_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "password").touch(0o600)
    secret, new = kept_secret(tmp_path / "password")
    assert (len(secret), new) == (48, True)
    assert kept_secret(tmp_path / "password") == (secret, False)

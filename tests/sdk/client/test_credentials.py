"""The token of an `aiki dev` on this machine is found by itself, and only there, and only if it is this user's own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aiki.cli.dev.folder import found_from_elsewhere, held, sign
from aiki.client.credentials import Credentials, local_token, noted
from aiki.client.transport import Reply, Transport
from aiki.errors import ApiError
from aiki.protocol import Problem

HERE = "http://localhost:8080"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, in which one is, and a home elsewhere."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    return project


def test_token_is_found_in_the_folder_and_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(project / ".aiki") as folder:
        token = sign(folder, port=8080)
        assert local_token(HERE) == token
        assert local_token("http://127.0.0.1:8080/") == token
        (project / "deep").mkdir()
        monkeypatch.chdir(project / "deep")
        assert local_token(HERE) == token


def test_token_is_found_from_elsewhere_while_it_runs(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with held(project / ".aiki") as folder:
        token = sign(folder, port=8080)
        monkeypatch.chdir("/")
        with found_from_elsewhere(folder, port=8080):
            assert local_token(HERE) == token
        assert local_token(HERE) is None
        assert not noted(8080).exists()


@pytest.mark.parametrize(
    "url", ["http://localhost:8081", "http://example.com:8080", "https://localhost:8080", "http://localhost", "nonsense:"]
)
def test_token_is_for_its_own_address_only(project: Path, url: str) -> None:
    with held(project / ".aiki") as folder:
        sign(folder, port=8080)
        assert local_token(url) is None


def test_token_of_a_process_that_has_ended_is_not_sent(project: Path) -> None:
    with held(project / ".aiki") as folder:
        sign(folder, port=8080)
        (folder / "lock").write_text(json.dumps({"pid": 2**22 + 1, "url": HERE}))
        assert local_token(HERE) is None


@pytest.mark.parametrize(("name", "mode"), [(".", 0o777), (".", 0o720), ("token", 0o644), ("token", 0o640)])
def test_token_that_others_could_have_changed_or_read_is_not_taken(project: Path, name: str, mode: int) -> None:
    with held(project / ".aiki") as folder:
        sign(folder, port=8080)
        (folder / name).chmod(mode)
        assert local_token(HERE) is None


def test_token_behind_a_link_is_not_taken(project: Path, tmp_path: Path) -> None:
    with held(tmp_path / "elsewhere") as folder:
        sign(folder, port=8080)
        (project / ".aiki").symlink_to(folder)
        assert local_token(HERE) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_token_in_the_folder_of_somebody_else_is_not_taken(project: Path) -> None:
    with held(project / ".aiki") as folder:
        sign(folder, port=8080)
        os.chown(folder, 65534, 65534)
        assert local_token(HERE) is None


def test_each_start_has_a_token_of_its_own_and_clients_learn_it(project: Path) -> None:
    with held(project / ".aiki") as folder:
        first = sign(folder, port=8080)
        credentials = Credentials(HERE, None)
        assert credentials.token == first
        assert not credentials.refused()
        second = sign(folder, port=8080)
        assert credentials.refused()
        assert credentials.token == second != first


async def test_request_that_was_refused_is_sent_again_with_the_new_token(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str | None] = []

    async def answered(transport: Transport, *arguments: object, **options: object) -> Reply:
        sent.append(transport.credentials.token)
        if len(sent) == 1:
            raise ApiError(Problem(type="urn:aiki:unauthorized", title="", status=401, detail=""))
        return Reply(200, b"")

    monkeypatch.setattr(Transport, "_send_once", answered)
    with held(project / ".aiki") as folder:
        first = sign(folder, port=8080)
        transport = Transport(HERE)
        second = sign(folder, port=8080)
        assert (await transport.send("GET", "/")).status == 200
        assert sent == [first, second]


def test_token_that_was_given_is_sent_first(project: Path) -> None:
    with held(project / ".aiki") as folder:
        found = sign(folder, port=8080)
        credentials = Credentials(HERE, "of-a-cluster")
        assert credentials.token == "of-a-cluster"
        assert credentials.refused()
        assert credentials.token == found


def test_nobody_else_may_read_what_is_written(project: Path) -> None:
    with held(project / ".aiki") as folder:
        sign(folder, port=8080)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "token").stat().st_mode & 0o777 == 0o600

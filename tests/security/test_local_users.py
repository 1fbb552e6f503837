"""`aiki dev` is its user's alone: another user of the machine, and a page in a browser, get nothing of it. Holes 6 and 7 of the security issue."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from cli.dev_process import Dev, project_in

PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or sys.executable
"""One that everybody can run; the environment's may lie in a home."""
STRANGER = Path(__file__).with_name("stranger.py")
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two users")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that everybody may look at."""
    return project_in(tmp_path)


def as_stranger(*command: str) -> str:
    done = subprocess.run(command, user="nobody", group="nogroup", extra_groups=[], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@ROOT_ONLY
@pytest.mark.timeout(120)
@pytest.mark.parametrize("user", [None, "games"], ids=["root's", "a user's"])
def test_another_local_user_gets_nothing(project: Path, user: str | None) -> None:
    shutil.copy(STRANGER, project / "stranger.py")
    if user is not None:
        for path in (project, *project.iterdir()):
            shutil.chown(path, user)
    dev = Dev(project, user=user)
    try:
        sockets = [part for child in dev.family for part in listening(child)]
        assert len(sockets) >= 2
        pids = [str(child.pid) for child in dev.family]
        got = as_stranger(PYTHON, "-I", str(project / "stranger.py"), str(project / ".aiki"), dev.url, ",".join(sockets), ",".join(pids))
        assert got == ""
        secrets = {(project / ".aiki" / name).read_text() for name in ("token", "postgres/password", "valkey/password")}
        shown = as_stranger("ps", "-eo", "args")
        assert [secret for secret in secrets if secret in shown or secret in dev.log.read_text()] == []
        assert json.loads(dev.aiki("runs", "--json"))["runs"] == []
    finally:
        dev.end(signal.SIGINT)


def listening(process: psutil.Process) -> list[str]:
    paths = [str(one.laddr) for one in process.net_connections(kind="unix")]
    return sorted({path for path in paths if path.endswith((".s.PGSQL.5432", "valkey.sock"))})


@pytest.mark.timeout(120)
def test_a_page_in_a_browser_gets_nothing(project: Path) -> None:
    dev = Dev(project)
    try:
        for headers in (
            {"Host": "evil.example", "Origin": "http://evil.example"},
            {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"},
            {"Content-Type": "application/x-www-form-urlencoded"},
        ):
            for path in ("/api/v1/runs", "/api/v1/worker/claim", "/api/v1/workers/w/lost", f"/api/v1/runs/{'0' * 32}/cancel"):
                assert status(dev.url + path, headers, b"{}") in (401, 403)
        token = (project / ".aiki" / "token").read_text()
        rebound = {"Host": "evil.example", "Authorization": f"Bearer {token}"}
        assert [status(dev.url + path, rebound, None) for path in ("/api/v1/runs", "/openapi.json", "/metrics", "/livez")] == [403] * 4
    finally:
        dev.end(signal.SIGINT)


def status(url: str, headers: dict[str, str], body: bytes | None) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=body, headers=headers), timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_no_way_leads_through_a_shared_folder_that_anybody_can_guess() -> None:
    sources = [Path(sys.modules[name].__file__ or "") for name in ("aiki.cli.dev.command",) if name in sys.modules]
    root = Path(__file__).parents[2]
    sources += [*root.glob("sdk/aiki/**/*.py"), *root.glob("server/aiki_server/**/*.py")]
    named = [f"{path.name}: {line.strip()}" for path in sources for line in path.read_text().splitlines() if re.search(r"[\"']/(var/)?tmp|gettempdir", line)]  # fmt: skip
    assert named == []

"""`aiki dev` as a process, for the tests that use it, end it, or attack it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from support.waiting import wait_until

FLOWS = Path(__file__).with_name("flows.py")


class Dev:
    """One `aiki dev` in a folder; for root also as another user, to whom the folder belongs."""

    def __init__(self, folder: Path, *, user: str | None = None) -> None:
        self.folder = folder
        self.log = folder / "dev.log"
        self.user = user
        python, path = _python(user)
        self.environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), **path}
        self._python = python
        with self.log.open("wb") as log:
            command = [python, "-m", "aiki.cli", "dev", "flows", "--port", "0", "--json"]
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=self.environment, user=user, group=user)
        wait_until(lambda: self.said("worker started") or self.process.poll() is not None, f"aiki dev to be ready: {self.log}", seconds=50)
        assert self.process.poll() is None, self.log.read_text()
        self.url = json.loads((folder / ".aiki" / "lock").read_text())["url"]
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def said(self, text: str, *, times: int = 1) -> bool:
        return self.log.read_text().count(text) >= times

    def child(self, *words: str) -> psutil.Process:
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child for child in children if all(word in child.cmdline() for word in words))

    def aiki(self, *arguments: str, folder: Path | None = None) -> str:
        """What a command printed that was typed in the project's folder, or in another one."""
        environment = {**self.environment, "AIKI_URL": self.url}
        return subprocess.run(
            [self._python, "-m", "aiki.cli", *arguments],
            env=environment, cwd=folder or self.folder, capture_output=True, text=True, check=True, user=self.user,
        ).stdout  # fmt: skip

    def end(self, how: signal.Signals) -> int:
        self.process.send_signal(how)
        return self.process.wait(30)

    def nobody_is_left(self) -> None:
        wait_until(lambda: not [child for child in self.family if alive(child)], "every child to have ended", seconds=10)


def _python(user: str | None) -> tuple[str, dict[str, str]]:
    """A Python that the user can run, and where it finds ours; the environment's own may lie in a home that he cannot enter."""
    if user is None:
        return sys.executable, {}
    found = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin:/usr/local/bin")
    path = {"PYTHONPATH": ":".join(path for path in sys.path if "site-packages" in path or Path(path).name in {"sdk", "server"})}
    if (
        found is None
        or subprocess.run([found, "-c", "import redis.asyncio"], env=path, user=user, capture_output=True, check=False).returncode
    ):
        pytest.skip("there is no Python of our version that another user can run")
    return found, path


def alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def project_in(folder: Path) -> Path:
    """A project in this folder that everybody on the machine may look at, with a module of workflows."""
    (folder / "flows.py").write_text(FLOWS.read_text())
    folder.chmod(0o755)
    return folder

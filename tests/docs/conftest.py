"""What is typed on a page: the fences, and the processes that stay while the rest is typed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.ports import free_port
from support.waiting import wait_until

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r'^```python(?: title="([\w./]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)


def python(page: Path) -> dict[str, str]:
    """The files that the fences of a page make: one module, but for fences with `title="name.py"`."""
    files: dict[str, str] = {}
    for name, code in FENCE.findall(page.read_text()):
        file = name or f"test_{page.stem.replace('-', '_')}.py"
        files[file] = files.get(file, "") + code + "\n\n"
    return files


@pytest.fixture
def shell(tmp_path: Path) -> Mapping[str, str]:
    """An environment with `aiki` on its path and ports of its own."""
    port = str(free_port())
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    tmp_path.chmod(0o755)
    return {**os.environ, "PATH": path, "AIKI_PORT": port, "AIKI_URL": f"http://127.0.0.1:{port}", "ONBOARDING_SMTP_PORT": str(free_port())}


@contextmanager
def staying(command: str, *, folder: Path, shell: Mapping[str, str]) -> Iterator[None]:
    """A command that runs until the end of the session."""
    log = folder / f"{command.split()[1]}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command.split(), cwd=folder, env=shell, stdout=output, stderr=output)
    try:
        if command.startswith("aiki dev"):
            wait_until(lambda: "worker started" in log.read_text(), f"aiki dev to be ready: {log}", seconds=60)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)

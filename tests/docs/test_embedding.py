"""The programs of the page on embedding, started as their readers start them, beside `aiki dev`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from docs.conftest import ROOT, python, staying
from support.ports import free_port
from support.waiting import wait_until

VIEW = """
import asyncio
import django
from django.conf import settings
from django.test import RequestFactory
settings.configure(ALLOWED_HOSTS=["testserver"])
django.setup()
from views import place
print(asyncio.run(place(RequestFactory().post("/"), "from-django")).content.decode())
"""
BESIDE = """
import asyncio
import os
from pathlib import Path
from beside import work_and_ask
print(asyncio.run(work_and_ask(os.environ["AIKI_URL"], Path(".aiki/token").read_text().strip())))
"""


@pytest.fixture
def folder(tmp_path: Path, shell: Mapping[str, str]) -> Iterator[Path]:
    for name, code in python(ROOT / "docs/how-to/embedding.md").items():
        (tmp_path / name).write_text(code)
    with staying("aiki dev shop", folder=tmp_path, shell=shell):
        yield tmp_path


def printed(*arguments: str, folder: Path, shell: Mapping[str, str]) -> str:
    command = [sys.executable, *arguments]
    answer = subprocess.run(command, cwd=folder, env=shell, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout.strip()


def asked(method: str, url: str) -> Any:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=20) as answer:
            return json.load(answer)
    except (URLError, OSError):
        return None


@pytest.mark.timeout(180)
def test_programs_of_the_page_start_runs_and_execute_them(folder: Path, shell: Mapping[str, str]) -> None:
    port = str(free_port())
    command = [sys.executable, "-m", "uvicorn", "web:app", "--port", port]
    web = subprocess.Popen(command, cwd=folder, env=shell, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    worker = subprocess.Popen([sys.executable, "worker.py"], cwd=folder, env=shell)
    try:
        assert printed("script.py", folder=folder, shell=shell) == "receipt for 42"
        assert printed("-c", BESIDE, folder=folder, shell=shell) == "receipt for 7"
        assert len(json.loads(printed("-c", VIEW, folder=folder, shell=shell))["run"]) == 32

        url = f"http://127.0.0.1:{port}/orders/7"
        wait_until(lambda: asked("POST", f"{url}?amount=12"), "the web application to answer", seconds=60)
        assert asked("POST", f"{url}?amount=12") == asked("POST", f"{url}?amount=12")
        wait_until(lambda: asked("GET", url) == {"status": "completed"}, "the run to complete", seconds=30)
    finally:
        for process in (web, worker):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert worker.returncode == 0

"""`aiki dev` for real: it comes up, goes with all that it started, and finds its data again. S1: a run that was accepted is there after it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from cli.dev_process import FLOWS, Dev, project_in
from support.waiting import wait_until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project with a module of workflows, where another user may look for Postgres's data too."""
    return project_in(tmp_path)


@pytest.mark.timeout(180)
def test_interrupt_ends_everything_and_a_second_start_finds_the_runs(folder: Path) -> None:
    dev = Dev(folder)
    try:
        dev.aiki("start", "greeting", "--input", '"Ann"', "--ref", "ann", folder=Path("/"))  # typed elsewhere
        second = subprocess.run(
            [sys.executable, "-m", "aiki.cli", "dev", "--port", "0"], cwd=folder, capture_output=True, text=True, check=False
        )
        assert second.returncode == 5
        assert "runs in this folder already" in second.stderr
    finally:
        code = dev.end(signal.SIGINT)
    dev.nobody_is_left()

    again = Dev(folder)
    try:
        again.aiki("send", "ref:ann", "go", '"again"')
        assert json.loads(again.aiki("start", "greeting", "--input", '"Ann"', "--ref", "ann", "--wait")) == "Hello Ann, again"
    finally:
        again.end(signal.SIGTERM)

    assert code == 0


@pytest.mark.timeout(180)
def test_killed_dev_leaves_nobody_and_its_folder_is_free(folder: Path) -> None:
    dev = Dev(folder)
    dev.end(signal.SIGKILL)
    dev.nobody_is_left()

    again = Dev(folder)

    assert again.end(signal.SIGTERM) == 0


@pytest.mark.timeout(180)
def test_parts_that_die_come_back_and_changed_code_is_loaded(folder: Path) -> None:
    dev = Dev(folder)
    try:
        for words, said in ((("worker",), "the worker has gone"), (("server",), "the server has gone")):
            dev.child("aiki.cli", *words).kill()
            wait_until(partial(dev.said, said), said, seconds=20)
        wait_until(lambda: dev.said("worker started", times=2), "the worker to be back", seconds=20)
        (folder / "flows.py").write_text(FLOWS.read_text().replace("Hello", "Good morning"))
        wait_until(lambda: dev.said("worker started", times=3), "the worker to be reloaded", seconds=20)
        dev.aiki("start", "greeting", "--input", '"Ann"', "--ref", "ann")
        dev.aiki("send", "ref:ann", "go", '"now"')
        output = json.loads(dev.aiki("start", "greeting", "--input", '"Ann"', "--ref", "ann", "--wait"))
    finally:
        dev.end(signal.SIGINT)

    assert output == "Good morning Ann, now"

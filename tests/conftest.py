"""What every test may ask for: the fixtures live in plugins beside this file, one idea each.

Postgres refuses to run as root, so for root it runs as another user, who cannot reach the folders that pytest makes. Below,
root's tests get folders of their own that others may pass through; they go when all tests have passed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest_plugins = [name for name in ("plugin_stack", "plugin_workers") if find_spec(name)]

OURS = pytest.StashKey[Path]()
MEASURE = "COVERAGE_PROCESS_CONFIG"
"""By this, coverage measures the processes that a process starts."""


def pytest_configure(config: pytest.Config) -> None:
    distributed = config.getoption("numprocesses", default=None)
    controls = not hasattr(config, "workerinput")
    if not (controls and distributed):
        # xdist's workers have been started by now. What tests start runs at full speed, unmeasured.
        os.environ.pop(MEASURE, None)
    if controls and os.geteuid() == 0 and config.option.basetemp is None:
        config.stash[OURS] = Path(tempfile.mkdtemp(prefix="aiki-tests-"))
        config.option.basetemp = str(config.stash[OURS])


@pytest.fixture(scope="session", autouse=True)
def _passable_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    for folder in (base, base.parent):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o711)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    ours = session.config.stash.get(OURS, None)
    if ours is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(ours, ignore_errors=True)  # a process may still be writing its last line

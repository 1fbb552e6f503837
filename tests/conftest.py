"""What every test may ask for: the shared fixtures live in support/server.py, workers.py and link.py.

Postgres refuses to run as root, so for root it runs as another user, who cannot reach the folders that pytest makes. Below,
root's tests get folders of their own that others may pass through; they go when all tests have passed.

Under coverage every process is measured that a test starts. xdist kills its workers some seconds after their last test, whether or not they have
written what they counted; so they write it before they say that they are done, and say where, and a session that cannot read it fails.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from coverage import Coverage, CoverageData

pytest_plugins = ["support.server", "support.workers", "support.link"]

OURS = pytest.StashKey[Path]()
COUNTED = "counted"
"""Under this a worker of xdist says where it has written what coverage counted."""


def pytest_configure(config: pytest.Config) -> None:
    controls = not hasattr(config, "workerinput")
    if controls:
        config.pluginmanager.register(Counted())
    if controls and os.geteuid() == 0 and config.option.basetemp is None:
        config.stash[OURS] = Path(tempfile.mkdtemp(prefix="aiki-tests-"))
        config.option.basetemp = str(config.stash[OURS])


@pytest.fixture(scope="session", autouse=True)
def _passable_folders(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    for folder in (base, base.parent):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o711)


class Counted:
    """In the process that controls xdist's workers: holds each against what it says that it has written."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        path = getattr(node, "workeroutput", {}).get(COUNTED)
        if path is not None and not error:
            written = CoverageData(path)
            written.read()
            assert written.measured_files(), f"{node.gateway.id} counted nothing: {path}"


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    measured = Coverage.current()
    if measured is not None and hasattr(session.config, "workeroutput"):
        measured.stop()
        measured.save()
        session.config.workeroutput[COUNTED] = measured.get_data().data_filename()
    ours = session.config.stash.get(OURS, None)
    if ours is not None and exitstatus == pytest.ExitCode.OK:
        shutil.rmtree(ours, ignore_errors=True)  # a process may still be writing its last line

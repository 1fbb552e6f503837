from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.installation import Installation
from support.server import ServerProcess


@pytest.fixture(scope="session")
def whole_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all tests of this process: each leaves it able to run, or the next one's `begin` does."""
    installation = Installation(tmp_path_factory.mktemp("installation"))
    yield installation
    installation.close()


@pytest.fixture
def installation(whole_installation: Installation, tmp_path: Path) -> Iterator[Installation]:
    """The installation, with everything up and no worker."""
    whole_installation.begin(tmp_path)
    yield whole_installation
    whole_installation.end()


@pytest.fixture
def server(installation: Installation) -> ServerProcess:
    """The server of that installation: `client` speaks to this one, and not to the server that other tests share."""
    return installation.server

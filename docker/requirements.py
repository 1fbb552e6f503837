"""Prints what the named projects depend on: `requirements.py sdk[cli,fast] server`; the projects themselves are left out."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

OURS = re.compile(r"^aiki\b")


def requirements(wanted: str) -> Iterator[str]:
    """The requirements of a project with the named extras."""
    folder, _, extras = wanted.rstrip("]").partition("[")
    project = tomllib.loads((Path(folder) / "pyproject.toml").read_text())["project"]
    yield from project["dependencies"]
    for extra in filter(None, extras.split(",")):
        yield from project["optional-dependencies"][extra]


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for name in sys.argv[1:] for line in requirements(name) if not OURS.match(line))

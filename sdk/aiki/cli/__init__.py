"""The command line, `aiki`: what a terminal and a script need of Aiki.

Typer and Rich come with the extra `aiki[cli]`; a worker image does without. So nothing here is imported before the
extra is known to be there, and its absence is an error that says what to install.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec

MISSING_PART = 9
"""The exit code where a distribution or an extra is not installed (see exit_codes.py for the others)."""


def main(ready: Callable[[], object] = lambda: None) -> None:
    """Run the command line; `ready` is called when everything is imported."""
    missing = [name for name in ("typer", "rich") if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"aiki: the command line needs {' and '.join(missing)}. Install it with: pip install 'aiki[cli]'\n")
        sys.exit(MISSING_PART)
    from aiki.cli.app import run  # noqa: PLC0415 - needs the extra

    ready()
    try:
        run()
    except KeyboardInterrupt:  # between two commands of ours, which answer it themselves
        sys.exit(130)

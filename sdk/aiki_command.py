"""The console script `aiki`, outside of the package: to import `aiki` takes half a second, in which Ctrl-C must not show a traceback."""

from __future__ import annotations

import os
import signal

INTERRUPTED = 130
"""The exit code that shells give to what was ended by Ctrl-C (see aiki/cli/exits.py for the others)."""


def main() -> None:
    """Run the command line; until it is there, Ctrl-C just ends the process."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from aiki.cli import main as run  # noqa: PLC0415 - what takes so long

    run(ready=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

"""The console script `aiki`, outside of the package: to import `aiki` takes half a second, in which Ctrl-C must not show a traceback.

Nor in the hundredth of a second that `signal` takes with what it imports: so the module within it is used, which every interpreter has loaded.
"""

import _signal  # type: ignore[import-not-found]  # it is not for everybody
import os

INTERRUPTED = 130
"""The exit code that shells give to what was ended by Ctrl-C (see aiki/cli/exit_codes.py for the others)."""


def main() -> None:
    """Run the command line; until it is there, Ctrl-C just ends the process."""
    _signal.signal(_signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    from aiki.cli import main as run  # noqa: PLC0415 - what takes so long

    run(ready=lambda: _signal.signal(_signal.SIGINT, _signal.default_int_handler))

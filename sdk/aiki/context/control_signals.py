"""The signals that cross user code untouched: they are no `Exception`, so no `except Exception` swallows them."""

from __future__ import annotations


class Suspended(BaseException):
    """The activation is over: the run was parked, released or lost, and this code will not go on."""


class BlockedLoop(BaseException):
    """Raised from another thread into workflow code that does not come back to its loop."""

"""Who settles now: so that a watchdog in another thread can interrupt workflow code that does not come back.

The loop's thread enters and leaves; the watchdog notes `settling`, and interrupts if it is still the same a while later, again and
again. The clock is the watchdog's. Interruptions are posted under a lock, and what was not delivered is absorbed on leaving: no
other code ever sees one.
"""

from __future__ import annotations

import ctypes
from threading import Lock, get_ident

from aiki.context.control_signals import BlockedLoop
from aiki.values.names import place_in_thread


class BlockingGuard:
    """One for each thread that steps workflow loops."""

    __slots__ = ("_active", "_lock", "_place", "_thread", "serial")

    def __init__(self) -> None:
        self.serial = 0
        self._active = False
        self._lock = Lock()
        self._place: str | None = None
        self._thread = 0

    @property
    def running(self) -> int | None:
        """The serial number of what settles now; None while nothing does."""
        return self.serial if self._active else None

    def enter(self) -> None:
        """Code begins to settle in this thread."""
        self.serial += 1
        self._place = None
        self._thread = get_ident()
        self._active = True

    def leave(self) -> str | None:
        """Code has settled; the answer is where it was interrupted, if it was. May be called again."""
        with self._lock:
            self._active = False
            place = self._place
        if place is not None:
            _absorb(self._thread)
        return place

    def interrupt(self, serial: int) -> str | None:
        """From the watchdog: interrupts if `serial` settles still. The answer is where the code is, None if it has gone on."""
        with self._lock:
            if not self._active or self.serial != serial:
                return None
            if self._place is None:
                self._place = place_in_thread(self._thread)
            _raise_in(self._thread, BlockedLoop)
            return self._place


def _absorb(thread: int) -> None:
    """Take what may be on its way to this thread: one more is posted, which replaces it, and is waited for.

    Withdrawing it (posting NULL) would leave CPython's "something is pending" set for good: every check would take the slow path,
    and a traced function would never get past its first instruction.
    """
    try:
        _raise_in(thread, BlockedLoop)
        while True:
            pass
    except BlockedLoop:
        return


def _raise_in(thread: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))

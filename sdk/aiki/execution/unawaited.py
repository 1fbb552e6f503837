"""Coroutines that workflow code makes and never awaits: they end its run, instead of a line in a log that nobody reads.

Python tells of such a coroutine when it frees it, by calling `warnings._warn_unawaited_coroutine`. There is no public way to be
told, and no way to be told of one loop only, so this module puts a function of its own in that place. It does so while a workflow
loop lives and no longer: importing Aiki changes nothing in a process, and whatever runs outside of workflow code warns as ever.

What the garbage collector frees may belong to any run, and not to the one whose code it happened to interrupt. So the collector
is listened to as well, and what it finds is told in Python's way.
"""

from __future__ import annotations

import gc
import warnings
from asyncio import events
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from weakref import WeakSet


class Listener(Protocol):
    """A workflow loop: told of the coroutines that are freed while its code runs."""

    def forgot(self, coroutine: Any) -> None: ...


class _Watch:
    """What is put in Python's place, and taken back with the last listener. There is one in a process, because there is one place."""

    def __init__(self) -> None:
        self.listeners: WeakSet[Any] = WeakSet()
        self._collecting = False
        self._installed = False
        self._before: Callable[[Any], None] = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]  # noqa: SLF001  see the module

    def install(self) -> None:
        """Put ours in its place, unless it is there. What was there is kept: another program may have put its own there."""
        found = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]  # noqa: SLF001  see the module
        if found == self._told:
            return
        if not self._installed:
            self._installed, self._collecting, self._before = True, False, found
            gc.callbacks.append(self._note)
        if found == self._before:
            warnings._warn_unawaited_coroutine = self._told  # type: ignore[attr-defined]  # noqa: SLF001  see the module

    def remove(self) -> None:
        """Put back what was there. If somebody has put theirs over ours, ours stays below it, and passes everything on."""
        found = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]  # noqa: SLF001  see the module
        if self._installed and found == self._told:
            warnings._warn_unawaited_coroutine = self._before  # type: ignore[attr-defined]  # noqa: SLF001  see the module
            gc.callbacks[:] = [callback for callback in gc.callbacks if callback != self._note]
            self._installed = False
        if self.listeners:  # another thread has made a loop meanwhile
            self.install()

    def _note(self, phase: str, _: dict[str, int]) -> None:
        self._collecting = phase == "start"

    def _told(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        loop: Any = events._get_running_loop()  # noqa: SLF001  the one that may be none, and the one that WorkflowLoop sets
        if loop is not None and not self._collecting and loop in self.listeners:
            loop.forgot(coroutine)
        else:
            self._before(coroutine)


_watch = _Watch()


def listen(loop: Listener) -> None:
    """From now on `loop` is told of coroutines that are freed, never awaited, while it runs."""
    _watch.listeners.add(loop)
    _watch.install()


def stop_listening(loop: Listener) -> None:
    """`loop` needs it no more. When nobody does, the process is as it was before the first."""
    _watch.listeners.discard(loop)
    if not _watch.listeners:
        _watch.remove()

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
from typing import Any


class UnawaitedListener:
    """A workflow loop: told of the coroutines that are freed while its code runs."""

    def forgot(self, coroutine: Any) -> None:
        """A coroutine was made and never awaited."""
        raise NotImplementedError


class _Watch:
    """What is put in Python's place, and taken back with the last listener. There is one in a process, because there is one place.

    Loops may be made and discarded in several threads. There is no lock: whoever adds a listener looks afterwards whether ours is in
    its place, and whoever takes it away looks afterwards whether a listener has come.
    """

    def __init__(self) -> None:
        self.listeners: set[int] = set()
        """By their ids, so that a loop that nobody discarded is freed all the same."""
        self.installed = False
        self._collecting = False
        self._before: Callable[[Any], None] = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]  # noqa: SLF001  see the module

    def install(self) -> None:
        """Put ours in its place. What was there is kept: another program may have put its own there."""
        found = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]  # noqa: SLF001  see the module
        self.installed = True
        if found != self._told:
            self._collecting, self._before = False, found
            gc.callbacks.append(self._note)
            warnings._warn_unawaited_coroutine = self._told  # type: ignore[attr-defined]  # noqa: SLF001  see the module

    def remove(self) -> None:
        """Put back what was there. If somebody has put theirs over ours, ours stays below it, and passes everything on."""
        found = warnings._warn_unawaited_coroutine  # type: ignore[attr-defined]  # noqa: SLF001  see the module
        if found == self._told:
            warnings._warn_unawaited_coroutine = self._before  # type: ignore[attr-defined]  # noqa: SLF001  see the module
            gc.callbacks[:] = [callback for callback in gc.callbacks if callback != self._note]
            self.installed = False
        if self.listeners and not self.installed:
            self.install()

    def _note(self, phase: str, _: dict[str, int]) -> None:
        self._collecting = phase == "start"

    def _told(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        loop: Any = events._get_running_loop()  # noqa: SLF001  the one that may be none, and the one that WorkflowLoop sets
        if isinstance(loop, UnawaitedListener) and not self._collecting:
            loop.forgot(coroutine)
        else:
            self._before(coroutine)


_watch = _Watch()


def listen(loop: UnawaitedListener) -> None:
    """From now on `loop` is told of coroutines that are freed, never awaited, while it runs."""
    _watch.listeners.add(id(loop))
    if not _watch.installed:
        _watch.install()


def stop_listening(loop: UnawaitedListener) -> None:
    """`loop` needs it no more. When nobody does, the process is as it was before the first."""
    _watch.listeners.discard(id(loop))
    if not _watch.listeners:
        _watch.remove()

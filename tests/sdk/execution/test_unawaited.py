"""What Python calls for a coroutine that nobody awaits is changed only while workflow code may run, and never lost to others."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from aiki.execution.loop.loop import WorkflowLoop

warned: Any = warnings


@pytest.fixture
def before() -> Iterator[Any]:
    """Python's own function, without any loop that another test has left."""
    from aiki.execution.loop import unawaited

    unawaited._watch.listeners.clear()
    unawaited._watch.remove()
    python = warned._warn_unawaited_coroutine
    yield python
    warned._warn_unawaited_coroutine = python
    unawaited._watch.listeners.clear()
    unawaited._watch.installed = False
    gc.callbacks[:] = [callback for callback in gc.callbacks if callback != unawaited._watch._note]


def loop() -> WorkflowLoop:
    return WorkflowLoop(SimpleNamespace(), "0" * 32)  # type: ignore[abstract]  # nothing is asked of it


def test_it_is_taken_back_with_the_last_loop_and_not_before(before: Any) -> None:
    callbacks = list(gc.callbacks)
    first, second = loop(), loop()
    assert warned._warn_unawaited_coroutine != before
    assert len(gc.callbacks) == len(callbacks) + 1
    first.discard()
    first.discard()
    assert warned._warn_unawaited_coroutine != before
    second.discard()
    assert (warned._warn_unawaited_coroutine, gc.callbacks) == (before, callbacks)


def test_what_another_program_put_there_stays_and_hears_of_its_coroutines(before: Any) -> None:
    heard: list[str] = []

    def theirs(coroutine: Any) -> None:
        heard.append(coroutine.__qualname__)

    async def forgotten() -> None: ...

    warned._warn_unawaited_coroutine = theirs
    mine = loop()
    coroutine = forgotten()
    del coroutine
    assert [name.rpartition(".")[2] for name in heard] == ["forgotten"]
    mine.discard()
    assert warned._warn_unawaited_coroutine is theirs


def test_what_another_program_puts_over_it_stays_and_is_passed_on_to(before: Any) -> None:
    mine = loop()
    ours = warned._warn_unawaited_coroutine

    def theirs(coroutine: Any) -> None:
        ours(coroutine)

    warned._warn_unawaited_coroutine = theirs
    mine.discard()
    assert warned._warn_unawaited_coroutine is theirs
    another = loop()
    assert warned._warn_unawaited_coroutine is theirs
    another.discard()
    warned._warn_unawaited_coroutine = ours
    loop().discard()
    assert warned._warn_unawaited_coroutine == before

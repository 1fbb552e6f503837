"""How a timeline fits a terminal."""

from __future__ import annotations

import io

from rich.console import Console, Group

from aiki.cli.render import Tail


def shown(*, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=20, height=height)
    with console.capture() as capture:
        console.print(Tail(Group("one", "two", "three")), end="")
    return capture.get().splitlines()


def test_tail_is_the_end_of_what_does_not_fit() -> None:
    assert shown(height=3) == ["two", "three"]


def test_tail_of_what_fits_is_all_of_it() -> None:
    assert shown(height=4) == shown(height=40) == ["one", "two", "three"]

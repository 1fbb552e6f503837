"""How a timeline fits a terminal."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console, Group

from aiki.cli.output.render import Tail, runs_table
from aiki.protocol import RunSummary, Status


def shown(*, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=20, height=height)
    with console.capture() as capture:
        console.print(Tail(Group("one", "two", "three")), end="")
    return capture.get().splitlines()


def test_tail_is_the_end_of_what_does_not_fit() -> None:
    assert shown(height=3) == ["two", "three"]


def test_tail_of_what_fits_is_all_of_it() -> None:
    assert shown(height=4) == shown(height=40) == ["one", "two", "three"]


NOW = datetime(2026, 11, 28, tzinfo=UTC)


def summary(status: Status, **more: object) -> RunSummary:
    members: dict[str, object] = {
        "id": "0001a21fdb96459c40110d2f2ebd5ab6", "workflow": "a-workflow-with-a-long-name", "version": "1.0", "pool": "gpu-large",
        "status": status, "ref": "order-2026-11-28-with-a-long-name", "parent": "f" * 32, "steps": 1, "created_at": NOW, "updated_at": NOW,
        "finished_at": None, "due_at": NOW + timedelta(hours=30),
    }  # fmt: skip
    return RunSummary.model_validate(members | more)


def table(width: int | None) -> list[str]:
    console = Console(file=io.StringIO(), width=width or 500)
    with console.capture() as capture:
        console.print(runs_table([summary(status) for status in Status], now=NOW + timedelta(hours=1, minutes=59), width=width))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [80, 100, 140, 200, None])
def test_listing_cuts_neither_ids_nor_states(width: int | None) -> None:
    head, *rows = table(width)
    assert all(len(row.rstrip()) <= (width or 500) for row in rows)
    assert all(f" {status} " in row for row, status in zip(rows, Status, strict=True))
    assert all(row.startswith("0001a21fdb96459c40110d2f2ebd5ab6 ") and "1 h 59 min" in row for row in rows)
    assert ("pool" in head, "parent" in head) == ((width or 500) >= 140, (width or 500) >= 140)


def test_listing_that_is_no_screen_is_whole() -> None:
    row = table(None)[1]
    assert all(text in row for text in ("a-workflow-with-a-long-name 1.0", "gpu-large", "order-2026-11-28-with-a-long-name", "f" * 32))

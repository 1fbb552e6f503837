"""`aiki runs` shows as many runs as it was asked for, however few of them a page of the server has."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest

from aiki.cli.commands.runs import _page
from aiki.client import Client
from aiki.protocol import RunList, RunSummary, Status

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def run(number: int) -> RunSummary:
    return RunSummary(
        id=f"{number:032x}",
        workflow="flow",
        version="1.0",
        pool="main",
        status=Status.COMPLETED,
        ref=None,
        parent=None,
        steps=0,
        created_at=NOW,
        updated_at=NOW,
        finished_at=NOW,
        due_at=None,
    )


class Server:
    """Looks at two runs a page, of which it lets the even ones through."""

    async def runs(self, *, limit: int, cursor: str | None, **_: Any) -> RunList:
        before = 12 if cursor is None else int(cursor, 16)
        looked_at = [number for number in (before - 1, before - 2) if number >= 0]
        found = [run(number) for number in looked_at if number % 4 == 0][:limit]
        return RunList(runs=found, next=f"{looked_at[-1]:032x}" if looked_at and looked_at[-1] > 0 else None)


@pytest.mark.parametrize(("limit", "wanted"), [(1, [8]), (2, [8, 4]), (3, [8, 4, 0]), (20, [8, 4, 0])])
async def test_pages_are_asked_for_until_there_are_enough(limit: int, wanted: list[int]) -> None:
    page = await _page(cast("Client", Server()), limit, None, {"workflow": "flow"})

    assert [int(one.id, 16) for one in page.runs] == wanted
    assert (page.next is None) == (0 in wanted)

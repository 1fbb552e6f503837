"""Children: how they are started, awaited, and left to themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiki import ChildCancelled, ChildFailed, Client, Run
from aiki.protocol import ErrorInfo, Status
from support.doubles import child_v2, child_v3, drive
from support.sdk.driver import RUN_ID, START


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"pool": "a pool"}, ValueError, "'a pool' cannot name a pool"),
        ({"pool": 3}, ValueError, "3 cannot name a pool"),
        ({"on_parent_close": "terminate"}, ValueError, "it is 'cancel' or 'abandon'"),
        ({"ref": "mine"}, TypeError, "a child takes on_parent_close and pool"),
    ],
    ids=range(4),
)
def test_child_that_the_server_would_refuse_is_refused_at_the_call(options: dict[str, Any], error: type[Exception], told: str) -> None:
    async def code(run: Run) -> str:
        with pytest.raises(error, match=told):
            child_v2.start(run, 4, **options)
        return "goes on"

    driver = drive(code)
    driver.turn()
    assert driver.output == "goes on"
    assert driver.children == {}
    with pytest.raises(TypeError, match="has no parent"):
        child_v2.start(Client("http://127.0.0.1:1"), 4, on_parent_close="abandon")  # type: ignore[call-overload]  # that is the test


def test_child_is_created_with_its_reservation_and_awaited() -> None:
    async def code(run: Run) -> int:
        child = child_v2.start(run, 4, on_parent_close="abandon")
        run.state["child"] = child.id
        return await child

    driver = drive(code)
    driver.turn()
    (child,) = driver.children.values()
    assert (child.workflow, child.version, child.input, child.on_parent_close) == ("child", "2.0", "4", "abandon")
    assert child.id[:2] == RUN_ID[:2]
    assert int(child.id[2:14], 16) == START // 1000
    assert json.loads(driver.states[-1]) == {"child": child.id}
    driver.crash()
    driver.turn()
    driver.end_child(child.id, 8)
    driver.tell()
    driver.turn()
    assert driver.output == 8


@pytest.mark.parametrize(("status", "failed"), [(Status.FAILED, ChildFailed), (Status.CANCELLED, ChildCancelled)])
def test_child_that_did_not_complete_raises(status: Status, failed: type[Exception]) -> None:
    async def code(run: Run) -> str:
        try:
            await child_v3.start(run)
        except ChildFailed as error:
            return type(error).__name__
        return "?"

    driver = drive(code)
    driver.turn()
    driver.end_child(next(iter(driver.children)), status=status, error=ErrorInfo(type="X", message="y"))
    driver.crash()
    driver.turn()
    assert driver.output == failed.__name__


def test_child_may_be_left_to_itself() -> None:
    async def code(run: Run) -> str:
        return child_v2.start(run, 1).id

    driver = drive(code)
    driver.turn()
    assert driver.output in driver.children


def test_large_drafts_can_be_taken_in_parts_that_are_prefixes() -> None:
    async def code(run: Run) -> None:
        children = [child_v2.start(run, number) for number in range(50)]
        run.state["children"] = len(children)
        await children[-1]

    driver = drive(code)
    driver.execution.advance(driver.now)
    parts = []
    while (part := driver.execution.take_commit(1_000)) is not None:
        parts.append(part)
        assert driver.execution.more is (part.state is None)
    assert len(parts) > 5
    assert all(len(part.entries) <= 1_100 for part in parts)
    entries = [entry for part in parts for entry in json.loads(part.entries)]
    assert [entry["c"] for entry in entries[1:]] == list(range(50))
    for part in parts:
        children = [entry["run"] for entry in json.loads(part.entries) if entry["k"] == "call"]
        assert [child.id for child in part.children] == children
        assert part.steps == len(children)

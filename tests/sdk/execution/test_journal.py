"""What replay asks a history for, and which attempt is due first: tables."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from aiki.execution.calls.delayed import Delayed
from aiki.execution.journal import Journal

BEGAN: dict[str, Any] = {"k": "began", "at": 1}
PAUSED: dict[str, Any] = {"k": "paused", "at": 2}


def queued(by: str) -> dict[str, Any]:
    return {"k": "queued", "at": 2, "by": by}


def call(number: int, address: str) -> dict[str, Any]:
    return {"k": "call", "c": number, "a": address, "l": address}


def done(number: int) -> dict[str, Any]:
    return {"k": "done", "c": number, "at": 3, "v": None}


def journal(*entries: dict[str, Any]) -> Journal:
    return Journal([json.dumps([entry]) for entry in entries])


@pytest.mark.parametrize(
    ("entries", "rewound"),
    [
        ([], False),
        ([queued("timer")], False),
        ([BEGAN], False),
        ([BEGAN, queued("rewound")], True),
        ([BEGAN, queued("rewound"), queued("lost")], True),
        ([BEGAN, queued("lost"), queued("rewound")], True),
        ([BEGAN, queued("rewound"), PAUSED, queued("resume")], True),
        ([BEGAN, PAUSED], False),
        ([BEGAN, queued("rewound"), call(0, "sleep::a")], False),
        ([BEGAN, queued("rewound"), call(0, "sleep::a"), queued("lost")], False),
    ],
    ids=range(10),
)
def test_a_run_is_rewound_until_a_worker_has_written_again(entries: list[dict[str, Any]], rewound: bool) -> None:
    assert journal(*entries).rewound is rewound


def test_a_journal_tells_of_the_reservation_that_it_would_give() -> None:
    found = journal(BEGAN, call(0, "task:a:1"), call(1, "task:a:1"), call(2, "task:b:1"), done(0))
    asked = [(found.has_call(address), found.has_end(address)) for address in ("task:a:1", "task:b:1", "task:c:1")]
    assert asked == [(True, True), (True, False), (False, False)]
    taken = [found.take("task:a:1") for _ in range(3)]
    assert [one and one.number for one in taken] == [0, 1, None]
    assert (found.has_call("task:a:1"), found.has_end("task:a:1")) == (False, False)


@pytest.mark.parametrize(
    ("removed", "left"), [([], [0, 1]), (["task:a:"], [1]), (["task:c:"], [0, 1]), (["task:b:", "task:a:"], [])], ids=range(4)
)
def test_what_is_left_over_is_all_that_has_ended_but_for_what_was_removed(removed: list[str], left: list[int]) -> None:
    found = journal(BEGAN, call(0, "task:a:1"), call(1, "task:b:1"), call(2, "task:d:1"), done(1), done(0))
    assert sorted(one.number for one in found.leftovers(removed)) == left


def test_the_attempt_that_is_due_first_is_one_of_those_that_still_wait() -> None:
    delayed = Delayed()
    one, other = (SimpleNamespace(number=number, not_before=due) for number, due in ((1, 10), (2, 30)))
    delayed.note(one)  # type: ignore[arg-type]  # it asks for no more
    delayed.note(other)  # type: ignore[arg-type]
    assert delayed.first() == 10
    one.not_before = 20
    delayed.note(one)  # type: ignore[arg-type]
    assert delayed.first() == 20
    del delayed.calls[1]
    assert delayed.first() == 30
    del delayed.calls[2]
    assert delayed.first() is None

"""What a server remembers of rows, and that it is bounded: S41."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from aiki_server.engine.commit import row_cache
from aiki_server.engine.commit.row_cache import Held
from aiki_server.model.rows import Place


def row(number: int) -> Any:
    class Row:
        id = UUID(int=number)

    return Row


def test_the_oldest_go_first(monkeypatch):
    monkeypatch.setattr(row_cache, "MOST", 3)
    known, place = Held(), Place((1, 1), 1)
    for number in (1, 2, 3, 1, 4):
        known.put(row(number), place, era=0)
    assert [known.get(UUID(int=number)) is not None for number in (1, 2, 3, 4)] == [True, False, True, True]


def test_what_is_replaced_is_forgotten():
    known, place = Held(), Place((1, 1), 1)
    known.put(row(1), place, era=0)
    known.replace({UUID(int=1): None}, {UUID(int=2): (row(2), place)}, era=0)
    assert known.get(UUID(int=1)) is None
    assert known.get(UUID(int=2)) is not None


def test_nothing_is_known_after_a_connection_was_lost():
    known, place = Held(), Place((1, 1), 1)
    known.put(row(1), place, era=known.era)
    before = known.era
    known.forget()
    known.put(row(2), place, era=before)
    assert known.get(UUID(int=1)) is known.get(UUID(int=2)) is None

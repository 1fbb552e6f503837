"""The database's clock in the server: S21."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest

from aiki_server.engine.runtime.clock import DatabaseClock

HOUR = 3_600_000_000


def test_it_is_the_database_that_says_what_time_it_is():
    clock = DatabaseClock()
    clock.read(HOUR)
    assert HOUR <= clock.now() < HOUR + HOUR // 2
    assert clock.is_ahead(datetime(1970, 1, 1, 2, tzinfo=UTC))
    assert not clock.is_ahead(datetime(1970, 1, 1, 0, 59, tzinfo=UTC))


@pytest.mark.parametrize("step", [-HOUR, HOUR])
def test_a_step_of_the_machines_own_clock_changes_nothing(monkeypatch, step):
    clock = DatabaseClock()
    clock.read(HOUR)
    wall = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: wall() + step * 1_000)
    assert HOUR <= clock.now() < HOUR + HOUR // 2

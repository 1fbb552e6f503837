"""The worker's notions of time: the database's clock, its lease, delays between tries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiki.shared.backoff import backoff_seconds
from aiki.worker.link.clock import DatabaseClockEstimate
from aiki.worker.link.lease import WorkerLease


class Elapsed:
    """A monotonic clock that the test turns."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds

    def ns(self) -> int:
        return int(self.seconds * 1e9)


def test_estimate_goes_on_from_the_last_answer() -> None:
    elapsed = Elapsed()
    clock = DatabaseClockEstimate(5_000_000, elapsed_ns=elapsed.ns)
    elapsed.seconds += 1.5
    assert clock.now() == 6_500_000
    clock.observe(20_000_000)
    elapsed.seconds += 0.25
    assert clock.now() == 20_250_000


def test_estimate_follows_a_database_clock_that_steps_back() -> None:
    elapsed = Elapsed()
    clock = DatabaseClockEstimate(9_000_000, elapsed_ns=elapsed.ns)
    clock.observe(1_000_000)
    assert clock.now() == 1_000_000


def test_effects_stop_before_the_server_gives_the_runs_to_others() -> None:
    elapsed = Elapsed()
    lease = WorkerLease(15.0, sent_at=elapsed(), clock=elapsed)
    elapsed.seconds += 11.9
    assert lease.holds()
    elapsed.seconds += 0.2
    assert not lease.holds()


def test_lease_counts_from_when_the_heartbeat_was_sent() -> None:
    elapsed = Elapsed()
    lease = WorkerLease(15.0, sent_at=elapsed(), clock=elapsed)
    sent_at = elapsed()
    elapsed.seconds += 11.0
    lease.renewed(sent_at)
    elapsed.seconds += 1.1
    assert not lease.holds()
    lease.renewed(elapsed())
    assert lease.holds()


@pytest.mark.parametrize(
    ("failures", "random", "seconds"),
    [(0, 0.9, 0.0), (1, 0.0, 0.0), (1, 0.5, 0.025), (2, 0.5, 0.05), (3, 0.75, 0.15), (20, 0.5, 1.0), (5_000, 0.75, 1.5)],
)
def test_backoff_is_a_share_of_a_pause_that_doubles_up_to_its_bound(failures: int, random: float, seconds: float) -> None:
    assert backoff_seconds(failures, random) == pytest.approx(seconds)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True), st.floats(0.01, 10), st.floats(0.01, 600))
def test_backoff_never_waits_longer_than_its_bound(failures: int, random: float, base: float, longest: float) -> None:
    seconds = backoff_seconds(failures, random, base_seconds=base, max_seconds=longest)
    assert 0 <= seconds <= longest
    assert seconds <= base * 2.0 ** max(0, min(failures, 40) - 1) or failures == 0

"""Retry policies: who is tried again, and when."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiki import NonRetryable, Retry, task
from aiki.definitions.task import DEFAULT_RETRY


@pytest.mark.parametrize(("attempt", "longest"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (5_000, 60)])
def test_exponential_delays_double_up_to_the_maximum(attempt: int, longest: float) -> None:
    policy = Retry.exponential(max_attempts=10_000)
    assert policy.delay(attempt, 0.5) == longest / 2
    assert policy.delay(attempt, 0.0) == 0


def test_default_is_five_attempts_from_one_second_to_a_minute() -> None:
    assert (DEFAULT_RETRY.max_attempts, DEFAULT_RETRY.base_delay, DEFAULT_RETRY.max_delay, DEFAULT_RETRY.jitter) == (5, 1, 60, True)


@pytest.mark.parametrize("delay", [2, 2.0, timedelta(seconds=2)])
def test_fixed_delay_has_no_jitter(delay: float | timedelta) -> None:
    policy = Retry.fixed(delay=delay, max_attempts=3)
    assert [policy.delay(attempt, 0.1) for attempt in (1, 2)] == [2, 2]


def test_never_is_one_attempt() -> None:
    assert not Retry.never().retries(OSError(), 1)


@pytest.mark.parametrize(
    ("error", "attempt", "again"),
    [
        (OSError(), 1, True),
        (OSError(), 4, True),
        (OSError(), 5, False),
        (NonRetryable("no"), 1, False),
        (KeyError("x"), 1, False),
        (LookupError("x"), 1, True),
    ],
)
def test_who_is_tried_again(error: Exception, attempt: int, again: bool) -> None:
    assert Retry.exponential(non_retryable=(KeyError,)).retries(error, attempt) is again


@pytest.mark.parametrize(("attempts", "base", "longest"), [(0, 1, 60), (5, -1, 60), (5, 10, 5)])
def test_impossible_policies_are_refused(attempts: int, base: float, longest: float) -> None:
    with pytest.raises(ValueError):
        Retry.exponential(max_attempts=attempts, base_delay=base, max_delay=longest)


@pytest.mark.parametrize("delay", [math.nan, math.inf, timedelta.max])
def test_delays_that_no_timer_keeps_are_refused(delay: float | timedelta) -> None:
    with pytest.raises(ValueError, match="a thousand years"):
        Retry.fixed(delay=delay)
    with pytest.raises(ValueError, match="a thousand years"):
        Retry.exponential(max_delay=delay)


@pytest.mark.parametrize("factor", [math.nan, math.inf, 0, -2])
def test_factor_is_a_number_above_0(factor: float) -> None:
    with pytest.raises(ValueError, match="factor"):
        Retry.exponential(factor=factor)


def test_one_class_that_is_not_retried_is_still_a_tuple() -> None:
    with pytest.raises(TypeError, match="tuple"):
        Retry.exponential(non_retryable=KeyError)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_timeout_of_a_task_is_above_0(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"late .*test_retry.py"):
        task(name="late", timeout=timeout)(test_factor_is_a_number_above_0)


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.floats(0, 100), st.floats(1, 10))
def test_delay_is_never_negative_nor_beyond_the_maximum(attempt: int, random: float, base: float, factor: float) -> None:
    policy = Retry.exponential(max_attempts=5, base_delay=base, max_delay=100, factor=factor)
    assert 0 <= policy.delay(attempt, random) <= 100

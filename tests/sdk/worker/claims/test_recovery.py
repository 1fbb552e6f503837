"""After a claim whose answer was lost, the worker asks what it was granted until nothing old can be on its way."""

from __future__ import annotations

from aiki.worker.claims.recovery import AGAIN_SECONDS, DOUBT_SECONDS, Doubt


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def asks(doubt: Doubt) -> bool:
    """A function, because a type checker takes a property for what it was a line before."""
    return doubt.due


def test_nothing_is_asked_as_long_as_every_claim_is_answered() -> None:
    assert not asks(Doubt(clock=Clock()))


def test_a_lost_answer_is_asked_for_at_once_then_every_two_seconds() -> None:
    clock = Clock()
    doubt = Doubt(clock=clock)
    doubt.lost()
    assert asks(doubt)
    doubt.asked()
    assert not asks(doubt)
    clock.now += AGAIN_SECONDS - 0.001
    assert not asks(doubt)
    clock.now += 0.001
    assert asks(doubt)


def test_it_is_not_asked_for_any_more_once_nothing_old_can_be_on_its_way() -> None:
    clock = Clock()
    doubt = Doubt(clock=clock)
    doubt.lost()
    clock.now = DOUBT_SECONDS - 0.001
    doubt.asked()
    clock.now += AGAIN_SECONDS
    assert asks(doubt)
    doubt.asked()
    clock.now += 1_000_000
    assert not asks(doubt)


def test_another_lost_answer_begins_anew() -> None:
    clock = Clock()
    doubt = Doubt(clock=clock)
    doubt.lost()
    clock.now = DOUBT_SECONDS
    doubt.asked()
    assert not asks(doubt)
    doubt.lost()
    assert asks(doubt)
    doubt.asked()
    clock.now += AGAIN_SECONDS
    assert asks(doubt)

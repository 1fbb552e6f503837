"""After a claim whose answer was lost, the worker asks what it was granted until nothing old can be on its way."""

from __future__ import annotations

from aiki.worker.claims.recovery import ASK_AGAIN_SECONDS, RECOVERY_SECONDS, ClaimRecovery


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def asks(recovery: ClaimRecovery) -> bool:
    """A function, because a type checker takes a property for what it was a line before."""
    return recovery.should_ask


def test_nothing_is_asked_as_long_as_every_claim_is_answered() -> None:
    assert not asks(ClaimRecovery(clock=Clock()))


def test_a_lost_answer_is_asked_for_at_once_then_every_two_seconds() -> None:
    clock = Clock()
    recovery = ClaimRecovery(clock=clock)
    recovery.claim_failed()
    assert asks(recovery)
    recovery.answered()
    assert not asks(recovery)
    clock.now += ASK_AGAIN_SECONDS - 0.001
    assert not asks(recovery)
    clock.now += 0.001
    assert asks(recovery)


def test_it_is_not_asked_for_any_more_once_nothing_old_can_be_on_its_way() -> None:
    clock = Clock()
    recovery = ClaimRecovery(clock=clock)
    recovery.claim_failed()
    clock.now = RECOVERY_SECONDS - 0.001
    recovery.answered()
    clock.now += ASK_AGAIN_SECONDS
    assert asks(recovery)
    recovery.answered()
    clock.now += 1_000_000
    assert not asks(recovery)


def test_another_lost_answer_begins_anew() -> None:
    clock = Clock()
    recovery = ClaimRecovery(clock=clock)
    recovery.claim_failed()
    clock.now = RECOVERY_SECONDS
    recovery.answered()
    assert not asks(recovery)
    recovery.claim_failed()
    assert asks(recovery)
    recovery.answered()
    clock.now += ASK_AGAIN_SECONDS
    assert asks(recovery)

"""After a claim whose answer was lost, the worker asks what it was granted until nothing old can be on its way."""

from __future__ import annotations

from aiki.worker.claims.recovery import AGAIN_SECONDS, DOUBT_SECONDS, Doubt


def test_a_lost_answer_is_asked_for_at_once_then_again_and_at_last_no_more() -> None:
    now = 0.0
    doubt = Doubt(clock=lambda: now)
    before = doubt.due
    doubt.lost()
    assert (before, doubt.due) == (False, True)
    asked = 0
    while now < 3 * DOUBT_SECONDS:
        if doubt.due:
            doubt.asked()
            asked += 1
        now += AGAIN_SECONDS / 4
    assert DOUBT_SECONDS / AGAIN_SECONDS <= asked <= DOUBT_SECONDS / AGAIN_SECONDS + 2
    assert not doubt.due

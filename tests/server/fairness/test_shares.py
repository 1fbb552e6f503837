"""A namespace that had more than its part of the server's loop waits while others are answered, and for nothing otherwise."""

from __future__ import annotations

import asyncio

import pytest

from aiki_server.api.fairness.shares import ALONE_SECONDS, CREDIT_SECONDS, LOOK_SECONDS, MOST_DEBT_SECONDS, PRESENT_SECONDS, Shares


class Loop:
    """What the loop's thread sees: the time, and how long it has worked. Nothing happens in it but what a test says."""

    def __init__(self):
        self.now = 100.0
        self.worked = 7.0

    def clock(self):
        return self.now

    def busy(self):
        return self.worked

    def work(self, seconds):
        self.now += seconds
        self.worked += seconds


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def shares(loop):
    return Shares(clock=loop.clock, busy=loop.busy)


def request(loop, seconds, *, steps=1):
    """A request that holds the loop for so long, in some steps."""

    async def stepping():
        for _ in range(steps):
            loop.work(seconds / steps)
            await asyncio.sleep(0)
        return "answer"

    return stepping()


async def test_who_is_alone_is_not_counted(shares, loop):
    for _ in range(3):
        assert not shares.contended("a")
        loop.work(1.0)
    assert shares.contended("b")
    assert shares.contended("a")
    loop.work(1.01 * ALONE_SECONDS)
    assert not shares.contended("a")


async def test_who_had_more_than_its_part_waits_while_others_are_answered(shares, loop):
    shares.must_wait("b")
    assert await shares.counted("a", request(loop, 4 * CREDIT_SECONDS)) == "answer"
    assert not shares.must_wait("b")
    assert shares.must_wait("a")
    assert not shares.must_wait("b")


async def test_who_was_alone_until_now_is_there(shares, loop):
    """Many requests that come at once beside somebody of whom nothing was noted yet."""
    shares.contended("b")
    assert shares.contended("a")
    shares.must_wait("a")
    await shares.counted("a", request(loop, 4 * CREDIT_SECONDS))
    assert shares.must_wait("a")


async def test_nobody_waits_for_who_is_not_there(shares, loop):
    shares.must_wait("b")
    await shares.counted("a", request(loop, 2 * CREDIT_SECONDS))
    loop.work(2 * PRESENT_SECONDS)
    assert not shares.must_wait("a")


async def test_time_in_which_the_loop_was_idle_is_everybodys(shares, loop):
    shares.must_wait("b")
    await shares.counted("a", request(loop, 3 * CREDIT_SECONDS))
    shares.must_wait("b")
    assert shares.must_wait("a")
    loop.now += 2 * CREDIT_SECONDS
    shares.must_wait("b")
    assert not shares.must_wait("a")


async def test_only_the_time_of_its_steps_is_counted(shares, loop):
    async def asking():
        waited = asyncio.Event()
        asyncio.get_running_loop().call_soon(loop.work, 10.0)
        asyncio.get_running_loop().call_soon(waited.set)
        await waited.wait()

    await shares.counted("a", asking())
    shares.must_wait("b")
    assert not shares.must_wait("a")


async def test_what_it_holds_of_the_database_is_owed_though_the_loop_is_idle(shares, loop):
    shares.must_wait("b")
    loop.now += 1000.0
    shares.charge("a", 1000.0)
    shares.must_wait("b")
    assert shares.must_wait("a")
    loop.now += 1.01 * (MOST_DEBT_SECONDS - CREDIT_SECONDS) * 2
    shares.must_wait("b")
    assert not shares.must_wait("a")


async def test_its_turn_comes_when_the_debt_is_paid(shares, loop):
    shares.charge("a", 1000.0)
    shares.must_wait("b")
    assert shares.must_wait("a")
    waiting = asyncio.create_task(shares.turn("a"))
    await asyncio.sleep(0)
    assert (shares.waiting("a"), shares.waiting("b")) == (1, 0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert shares.waiting("a") == 0
    loop.work(100_000.0)
    await shares.turn("a")


async def test_a_request_that_fails_or_is_cancelled_is_counted_as_well(shares, loop):
    async def failing():
        loop.work(1.0)
        raise ValueError

    shares.must_wait("b")
    with pytest.raises(ValueError):
        await shares.counted("a", failing())
    shares.must_wait("b")
    going = asyncio.create_task(shares.counted("b", request(loop, 0.9, steps=3)))
    await asyncio.sleep(0)
    going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert shares.must_wait("a")
    assert shares.must_wait("b")


async def test_of_many_that_come_at_once_only_as_many_are_let_in_as_it_may_take(shares, loop):
    """What a request will cost is not known when it comes: it is taken to cost what others have."""
    shares.must_wait("b")
    for _ in range(50):
        shares.must_wait("a")
        await shares.counted("a", request(loop, CREDIT_SECONDS / 4))
        loop.now += 1.0
    shares.must_wait("b")
    let_in, gate = [], asyncio.Event()
    while not shares.must_wait("a"):
        let_in.append(asyncio.create_task(shares.counted("a", gate.wait())))
        await asyncio.sleep(0)
        shares.must_wait("b")
    assert 3 <= len(let_in) <= 6
    gate.set()
    await asyncio.gather(*let_in)


async def test_who_waits_behind_long_requests_is_there(shares, loop):
    shares.must_wait("b")
    shares.must_wait("a")
    await shares.counted("a", request(loop, 20 * PRESENT_SECONDS))
    assert shares.must_wait("a")


def served(shares, loop, tenants, *, seconds):
    """How long each tenant held the loop when all have a request ready as soon as the last one is answered; each: the length of its requests.

    Whoever waits looks again as often as `turn` does. Requests run one after the other, as they do in the loop.
    """
    had = dict.fromkeys(tenants, 0.0)
    looks_at = dict.fromkeys(tenants, loop.now)
    end = loop.now + seconds
    while loop.now < end:
        ready = [name for name in tenants if looks_at[name] <= loop.now]
        if not ready:
            loop.now = min(looks_at.values())
            continue
        for name in ready:
            if shares.must_wait(name):
                looks_at[name] = loop.now + LOOK_SECONDS
                continue
            with pytest.raises(StopIteration):
                shares.counted(name, _at_once(loop, tenants[name])).send(None)
            had[name] += tenants[name]
            looks_at[name] = loop.now
    return had


async def _at_once(loop, seconds):
    loop.work(seconds)


@pytest.mark.parametrize("lengths", [(0.001, 0.001), (0.0005, 0.004), (0.001, 0.03)])
def test_two_busy_tenants_have_the_whole_loop_in_equal_parts(shares, loop, lengths):
    had = served(shares, loop, {"a": lengths[0], "b": lengths[1]}, seconds=20.0)
    assert sum(had.values()) >= 0.95 * 20.0
    assert min(had.values()) >= 0.45 * 20.0


def test_ten_busy_tenants_have_the_whole_loop_in_equal_parts(shares, loop):
    had = served(shares, loop, {f"t{number}": 0.0005 * (1 + number) for number in range(10)}, seconds=30.0)
    assert sum(had.values()) >= 0.95 * 30.0
    assert min(had.values()) >= 0.08 * 30.0

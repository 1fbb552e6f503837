"""Who leads: one at a time, by what each has seen of the Lease on its own clock."""

from __future__ import annotations

import asyncio

import pytest

from aiki_operator.kubernetes.client import Cluster
from aiki_operator.process import lease as leasing
from aiki_operator.process.lease import LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, LeaderLease, LeaseLost
from support.operator.fake_kubernetes import FakeKubernetes

WHERE = ("Lease", "aiki", "aiki-operator")


class Clock:
    """A monotonic clock that tests move; sleeping moves it too."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def contender(cluster: Cluster, name: str, clock: Clock) -> LeaderLease:
    return LeaderLease(cluster, namespace="aiki", name="aiki-operator", identity=name, monotonic=clock.monotonic, sleep=clock.sleep)


def holder(kubernetes: FakeKubernetes) -> str:
    return str(kubernetes.objects[WHERE]["spec"]["holderIdentity"])


def renewed_by(kubernetes: FakeKubernetes, name: str, at: str) -> None:
    """The other replica renews."""
    body = kubernetes.objects[WHERE]
    kubernetes.put({**body, "spec": {**body["spec"], "holderIdentity": name, "renewTime": at}})


def test_holder_gives_up_before_another_may_begin() -> None:
    assert RENEW_SECONDS + RETRY_SECONDS < LEASE_SECONDS


async def test_first_one_takes_the_lease(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    lease = contender(cluster, "a", clock)
    await lease.acquire()
    assert lease.held
    spec = kubernetes.objects[WHERE]["spec"]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", LEASE_SECONDS, 0)


async def test_second_one_waits_as_long_as_the_lease_lasts_after_it_last_changed(
    kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock
) -> None:
    await contender(cluster, "a", clock).acquire()
    lease, began = contender(cluster, "b", clock), clock.now
    await lease.acquire()
    assert holder(kubernetes) == "b"
    assert LEASE_SECONDS < clock.now - began <= LEASE_SECONDS + RETRY_SECONDS
    assert kubernetes.objects[WHERE]["spec"]["leaseTransitions"] == 1


async def test_time_in_the_lease_is_not_compared_with_any_clock(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    """Clocks of nodes differ: an old renewTime means nothing, a changed one that somebody lives."""
    await contender(cluster, "a", clock).acquire()
    lease = contender(cluster, "b", clock)
    for minute in range(5):
        renewed_by(kubernetes, "a", f"1970-01-01T00:0{minute}:00Z")
        assert not await lease._attempt()
        clock.now += LEASE_SECONDS - 1
    assert holder(kubernetes) == "a"


async def test_released_lease_is_taken_over_at_once(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    first, second = contender(cluster, "a", clock), contender(cluster, "b", clock)
    await first.acquire()
    await first.release()
    assert holder(kubernetes) == ""
    began = clock.now
    await second.acquire()
    assert (holder(kubernetes), clock.now - began) == ("b", 0)
    await first.release()
    assert holder(kubernetes) == "b"


async def test_of_two_that_write_at_once_one_wins(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    contenders = [contender(cluster, name, clock) for name in "abcd"]
    assert sum(await asyncio.gather(*(one._attempt() for one in contenders))) == 1


async def test_holder_that_cannot_renew_ends(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    lease = contender(cluster, "a", clock)
    await lease.acquire()
    kubernetes.refuse["Lease"] = (503, "etcd has no leader")
    began = clock.now
    with pytest.raises(LeaseLost):
        await lease.keep()
    assert clock.now - began < LEASE_SECONDS


async def test_renewal_counts_from_its_beginning_however_slow_it_is(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    """Another may have seen the Lease change as early as that, and begins when it has lasted from there."""
    lease, began = contender(cluster, "a", clock), [clock.now]
    await lease.acquire()

    def slow(body: object) -> None:
        began[0] = clock.now
        clock.now += 3.5
        kubernetes.refuse["Lease"] = (503, "etcd has no leader")

    kubernetes.watcher = slow
    with pytest.raises(LeaseLost):
        await lease.keep()
    assert clock.now - began[0] < LEASE_SECONDS


async def test_holder_ends_at_once_when_the_lease_is_somebody_else_s(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    lease = contender(cluster, "a", clock)
    await lease.acquire()
    renewed_by(kubernetes, "b", "1970-01-01T00:00:00Z")
    began = clock.now
    with pytest.raises(LeaseLost, match="held by b"):
        await lease.keep()
    assert clock.now - began <= RENEW_SECONDS


async def test_renewal_is_one_request(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    lease = contender(cluster, "a", clock)
    await lease.acquire()
    kubernetes.asked.clear()
    for _ in range(3):
        assert await lease._attempt()
    assert [verb for verb, _, _ in kubernetes.asked] == ["get", *["update"] * 3]  # what was created is read once
    body = kubernetes.objects[WHERE]
    kubernetes.put({**body, "metadata": {**body["metadata"], "labels": {"a": "b"}}})
    assert await lease._attempt()  # somebody has labelled it, and it is ours all the same


async def test_one_that_stands_by_looks_when_the_lease_expires(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    await contender(cluster, "a", clock).acquire()
    lease, began = contender(cluster, "b", clock), clock.now
    await lease.acquire()
    assert clock.now - began < LEASE_SECONDS + 0.2
    assert len(clock.slept) <= LEASE_SECONDS / RETRY_SECONDS + 2


async def test_holder_ends_although_the_api_server_hangs(
    kubernetes: FakeKubernetes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leasing, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(leasing, "GIVE_UP_SECONDS", 0.2)
    lease = LeaderLease(cluster, namespace="aiki", name="aiki-operator", identity="a")
    await lease.acquire()
    kubernetes.hang = {"Lease"}
    async with asyncio.timeout(5):
        with pytest.raises(LeaseLost):
            await lease.keep()


async def test_holder_renews_while_it_lives(kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock) -> None:
    lease = contender(cluster, "a", clock)
    await lease.acquire()
    keeping = asyncio.create_task(lease.keep())
    async with asyncio.timeout(10):
        while len(clock.slept) < 20:
            await asyncio.sleep(0)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert kubernetes.objects[WHERE]["spec"]["leaseTransitions"] == 0
    assert ("update", "leases") in kubernetes.writes


async def test_lease_counts_from_when_its_renewal_began(
    kubernetes: FakeKubernetes, cluster: Cluster, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other replica may have seen the renewal as soon as it was sent, however late its answer came."""
    lease = contender(cluster, "a", clock)
    await lease.acquire()
    attempt, began = lease._attempt, clock.now
    seconds = LEASE_SECONDS - RENEW_SECONDS - 1

    async def slow() -> bool:
        nonlocal began
        began, taken = clock.now, await attempt()
        clock.now += seconds
        kubernetes.refuse["Lease"] = (503, "etcd has no leader")
        monkeypatch.setattr(lease, "_attempt", attempt)
        return taken

    monkeypatch.setattr(lease, "_attempt", slow)
    with pytest.raises(LeaseLost):
        await lease.keep()
    assert clock.now - began < LEASE_SECONDS

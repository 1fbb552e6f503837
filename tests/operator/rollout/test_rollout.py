"""The life of a pool, turn after turn: the plan is carried out by a small cluster and a small server, and must lead somewhere.

The cluster makes pods of Deployments at once; the server registers workers of ready pods, gives queued runs to the latest promoted build
and lets them end. Everything the plan says is done; between any two actions the operator may die (S42).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.manifests.choice import revealed
from aiki_operator.names import BUILD_LABEL, BUILD_SPEC_ANNOTATION
from aiki_operator.plan.difference import must_write
from aiki_operator.plan.pods import Pod, PodProblem
from aiki_operator.plan.pool.drain import GOES_FIRST
from aiki_operator.plan.pool.plan import PoolMemory, PoolPlan, plan
from aiki_operator.plan.pool.state import DeployedBuild, LoadUnavailable, ObservedPool
from aiki_operator.scaling.autoscale import Demand, LoadRates
from aiki_operator.scaling.load import BuildLoad, Load, PoolWorker
from aiki_operator.spec.pool import PoolSpec, Versioning, parse_build, parse_pool
from support.operator.objects import pool_body

CRASH = PodProblem("CrashLoop", "the container has ended 3 times", lasting=True)


@dataclass
class World:
    """A cluster with one pool, and its server."""

    body: dict[str, Any]
    workloads: dict[str, dict[str, Any]] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    active: dict[str, int] = field(default_factory=dict)  # runs in hand, by pod
    draining: set[str] = field(default_factory=set)
    promoted: list[str] = field(default_factory=list)
    registered: set[str] = field(default_factory=set)
    sleeping: dict[str, int] = field(default_factory=dict)  # open runs that only this build can end
    queued: int = 0
    serving: str | None = None
    memory: PoolMemory = field(default_factory=PoolMemory)
    broken: set[str] = field(default_factory=set)
    now: float = 0.0
    made: int = 0
    writes: int = 0
    interrupted: int = 0

    @property
    def spec(self) -> PoolSpec:
        return parse_pool(self.body)

    def observed(self, *, silent: bool = False) -> ObservedPool:
        newest = list(reversed(self.workloads.values()))
        deployed = tuple(
            DeployedBuild(
                parse_build(
                    self.body,
                    revealed(one["metadata"]["annotations"][BUILD_SPEC_ANNOTATION], one["spec"]["template"]["spec"]),
                    one["metadata"]["labels"][BUILD_LABEL],
                ),
                one["spec"]["replicas"],
                tuple(member for member in self.pods.values() if member.build == one["metadata"]["labels"][BUILD_LABEL]),
            )
            for one in newest
        )
        load = LoadUnavailable(30, "ServerUnreachable", "no answer") if silent else self.load()
        return ObservedPool(deployed, load, "config", self.serving)

    def load(self) -> Load:
        builds = tuple(
            BuildLoad(
                name,
                name in self.promoted,
                self.sleeping.get(name, 0) + self.busy(name) * (name != self.serving),
                Demand(queued=self.queued if name == self.serving else 0, running=self.busy(name), busy_workers=self.workers_busy(name)),
                float(len(self.promoted) - self.promoted[::-1].index(name) if name in self.promoted else 0),
            )
            for name in sorted(self.registered)
        )
        workers = tuple(
            PoolWorker(f"w-{member.name}", member.name, member.build, self.active.get(member.name, 0), member.name in self.draining, 60)
            for member in self.pods.values()
            if member.ready
        )
        running = sum(self.active.values())
        return Load(
            Versioning.BY_VERSION,
            LoadRates(0.0, 5.0),
            complete=True,
            lag=0,
            queued=self.queued,
            running=running,
            due=(),
            builds=builds,
            workers=workers,
        )

    def busy(self, build: str) -> int:
        return sum(runs for name, runs in self.active.items() if self.pods[name].build == build)

    def workers_busy(self, build: str) -> int:
        return sum(1 for name, runs in self.active.items() if runs and self.pods[name].build == build)

    def turn(self, *, silent: bool = False, dies_after: int | None = None) -> PoolPlan:
        """One turn of the operator; it may die after some of its actions, and then remembers nothing."""
        found, memory = plan(self.spec, self.observed(silent=silent), self.memory, self.now)
        for number, action in enumerate(self.actions(found)):
            if number == dies_after:
                self.memory = PoolMemory()
                return found
            action()
        self.serving, self.memory = found.serving, memory
        return found

    def actions(self, found: PoolPlan) -> Iterator[Any]:
        for name in found.unmark:
            yield lambda name=name: self.pods.update({name: replace(self.pods[name], cost=None)})
        for name in found.mark:
            yield lambda name=name: self.pods.update({name: replace(self.pods[name], cost=GOES_FIRST)})
        for manifest in found.apply:
            yield lambda manifest=manifest: self.apply(manifest)
        if found.promote is not None:
            yield lambda: self.promoted.append(str(found.promote))
        for worker in found.drain:
            yield lambda worker=worker: self.draining.add(worker.removeprefix("w-"))
        for worker in found.undrain:
            yield lambda worker=worker: self.draining.discard(worker.removeprefix("w-"))
        for build in found.forget:
            yield lambda build=build: self.forget(build)

    def apply(self, manifest: Any) -> None:
        name = manifest["metadata"]["labels"][BUILD_LABEL]
        if must_write(self.workloads.get(name), manifest):
            self.writes += 1
            self.workloads[name] = manifest
            self.match(name, manifest["spec"]["replicas"])

    def match(self, build: str, replicas: int) -> None:
        """What Kubernetes does: more pods, or fewer, those first that are not ready or have the lowest deletion cost."""
        members = sorted((one for one in self.pods.values() if one.build == build), key=lambda one: (one.ready, one.cost != GOES_FIRST))
        for member in members[: max(0, len(members) - replicas)]:
            self.interrupted += self.active.pop(member.name, 0)
            self.draining.discard(member.name)
            del self.pods[member.name]
        for _ in range(replicas - len(members)):
            self.made += 1
            self.pods[f"p{self.made}"] = Pod(f"p{self.made}", build, ready=False, leaving=False, ended=False, cost=None, trouble=None)

    def forget(self, build: str) -> None:
        assert build != self.spec.build
        assert not self.sleeping.get(build)
        assert not self.busy(build)
        self.registered.discard(build)
        self.workloads.pop(build, None)
        self.match(build, 0)

    def live(self, seconds: float = 1.0) -> None:
        """Time passes: pods get ready and register, runs end and others start."""
        self.now += seconds
        for name, member in self.pods.items():
            broken = member.build in self.broken
            self.pods[name] = replace(member, ready=not broken, trouble=CRASH if broken else None)
            if not broken:
                self.registered.add(member.build)
            self.active[name] = max(0, self.active.get(name, 0) - 1)
        for name, member in self.pods.items():
            if member.ready and member.build == self.serving and name not in self.draining:
                taken = min(self.queued, self.spec.concurrency - self.active[name])
                self.active[name] += taken
                self.queued -= taken

    def settle(self, turns: int = 60, *, seconds: float = 1.0) -> PoolPlan:
        for _ in range(turns):
            found = self.turn()
            self.live(seconds)
        return found

    def rest(self) -> PoolPlan:
        """Until all work is done and all pods are gone, or until they had the time to go."""
        for _ in range(600):
            self.turn()
            self.live(5.0)
            if not self.queued and not self.pods:
                break
        return self.settle(5)


def body(image: str, **spec: Any) -> dict[str, Any]:
    return pool_body(image=image, maxReplicas=5, **{"revisionLimit": 0, **spec})


def test_pool_starts_works_and_returns_to_zero_and_then_writes_nothing() -> None:
    world = World(body("a"))
    world.settle(5)
    assert (world.serving, world.promoted) == (world.spec.build, [world.spec.build])
    world.queued = 200
    world.settle(10)
    assert len(world.pods) > 1
    world.rest()
    assert (world.pods, world.queued, world.interrupted) == ({}, 0, 0)
    before = world.writes
    found = world.settle(5)
    assert world.writes == before
    assert (found.notices, found.promote, found.versioning, found.forget, found.drain, found.undrain, found.mark) == (
        (),
        None,
        None,
        (),
        (),
        (),
        (),
    )


def test_roll_out_moves_to_the_new_build_and_the_old_one_goes() -> None:
    world = World(body("a"), queued=100)
    world.settle(10)
    old = world.spec.build
    world.body = body("b")
    world.queued += 100
    world.rest()
    assert (list(world.workloads), world.serving, world.promoted) == ([world.spec.build], world.spec.build, [old, world.spec.build])
    assert world.interrupted == 0


def test_old_build_sleeps_at_zero_until_its_last_run_ends() -> None:
    world = World(body("a"))
    world.settle(5)
    old = world.spec.build
    world.sleeping[old] = 2
    world.body = body("b")
    world.rest()
    assert (set(world.workloads), world.pods) == ({old, world.spec.build}, {})
    assert world.workloads[old]["spec"]["replicas"] == 0
    world.sleeping[old] = 0
    world.settle(5)
    assert set(world.workloads) == {world.spec.build}


def test_builds_that_served_are_kept_without_pods_and_a_former_one_takes_over_again() -> None:
    world, served = World(body("a", revisionLimit=2)), []
    for image in "abcd":
        world.body = body(image, revisionLimit=2)
        world.queued += 20
        found = world.rest()
        served.append(world.spec.build)
    assert (set(world.workloads), world.pods, world.registered) == (set(served[1:]), {}, set(served[1:]))
    assert [one["state"] for one in found.builds].count("Kept") == 2
    world.body = body("b", revisionLimit=2)
    world.queued += 20
    world.rest()
    assert (world.serving, world.queued, world.interrupted) == (served[1], 0, 0)
    assert set(world.workloads) == set(served[1:])
    world.body = body("b", revisionLimit=1)
    world.rest()
    assert set(world.workloads) == {served[1], served[3]}  # the one that served last, not the one that was made last but one


def test_a_build_that_never_served_is_not_kept() -> None:
    world = World(body("a", revisionLimit=5))
    world.settle(5)
    good = world.spec.build
    world.body = body("b", revisionLimit=5)
    world.broken = {world.spec.build}
    world.settle(5)
    world.body = body("a", revisionLimit=5)
    world.rest()
    assert set(world.workloads) == {good}


def test_broken_build_takes_nothing_and_the_way_back_leaves_no_trace() -> None:
    world = World(body("a"), queued=50)
    world.settle(10)
    good = world.spec.build
    world.body = body("b")
    world.broken = {world.spec.build}
    world.queued += 50
    found = world.rest()
    assert (world.serving, world.queued) == (good, 0)
    assert {one.type: one.reason for one in found.conditions}["Stalled"] == "CrashLoop"
    world.body = body("a")
    found = world.rest()
    assert (set(world.workloads), world.interrupted) == ({good}, 0)
    assert {one.type: one.word for one in found.conditions}["Ready"] == "True"


def test_turns_at_the_same_moment_write_nothing_twice() -> None:
    world = World(body("a"), queued=100)
    for _ in range(30):
        world.turn()
        world.turn()  # sees what the first one promoted
        before, promoted = world.writes, list(world.promoted)
        world.turn()
        assert (world.writes, world.promoted) == (before, promoted)
        world.live()


moments = st.tuples(
    st.sampled_from(["work", "image", "silence", "death", "none"]), st.integers(0, 80), st.integers(1, 20), st.none() | st.integers(0, 4)
)


@settings(max_examples=12, deadline=None)
@given(st.lists(moments, max_size=8))
def test_whatever_happens_it_ends_with_one_build_at_rest_and_nothing_interrupted(life: list[tuple[str, int, int, int | None]]) -> None:
    world = World(body("a"))  # which keeps no build to go back to
    for what, much, turns, dies_after in life:
        if what == "work":
            world.queued += much
        if what == "image":
            world.body = body("abc"[much % 3])
        for _ in range(turns):
            before = {name: one["spec"]["replicas"] for name, one in world.workloads.items()}
            world.turn(silent=what == "silence", dies_after=dies_after if what == "death" else None)
            if what == "silence":
                after = {name: one["spec"]["replicas"] for name, one in world.workloads.items()}
                assert all(after[name] >= size for name, size in before.items())
            world.live()
    found = world.rest()
    assert (set(world.workloads), world.pods, world.queued) == ({world.spec.build}, {}, 0)
    assert world.serving == world.spec.build
    assert {one.type: one.word for one in found.conditions}["Ready"] == "True"
    assert world.interrupted == 0

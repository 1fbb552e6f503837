"""A new build takes over in steps: turn after turn over a small cluster and the server's own choice for each run, with a clock that tests move."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.names import CONTINUE
from aiki_operator.plan.pods import Pod, PodProblem
from aiki_operator.plan.pool.plan import PoolMemory, PoolPlan, plan
from aiki_operator.plan.pool.progress import parse_progress
from aiki_operator.plan.pool.state import DeployedBuild, LoadUnavailable, ObservedPool
from aiki_operator.reporting.conditions import turns
from aiki_operator.scaling.autoscale import Demand, LoadRates
from aiki_operator.scaling.load import BuildLoad, Load, PoolWorker, RolloutTrial
from aiki_operator.spec.pool import PoolSpec, Versioning, parse_pool
from aiki_operator.spec.steps import seconds
from aiki_server.engine.dispatch.routing import Place, Serving, serving
from aiki_server.engine.start.new_ids import RunIds
from aiki_server.model.workers import Build, PoolRow, Registration
from support.operator.objects import pool_body

STEPS = [{"percent": 10, "pause": "10m"}, {"percent": 50, "pause": "30m"}, {"percent": 100, "pause": "1h"}]
GATE = {"maxFailedPercent": 20, "minRuns": 5}
DAY = datetime(2030, 1, 1, tzinfo=UTC)
CRASH = PodProblem("CrashLoop", "the container has ended 3 times", lasting=True)


@dataclass
class Run:
    """A run, where it was placed, and how it fares."""

    id: UUID
    place: Place
    state: str = "open"


@dataclass
class World:
    """A cluster with one pool, and its server; each build that was ever asked for has a pod."""

    body: dict[str, Any]
    now: float = 1_000_000.0
    status: dict[str, Any] = field(default_factory=dict)
    builds: list[PoolSpec] = field(default_factory=list)
    promoted: list[str] = field(default_factory=list)
    share: tuple[str, int] | None = None
    runs: list[Run] = field(default_factory=list)
    bad: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    memory: PoolMemory = field(default_factory=PoolMemory)
    shares: list[tuple[str, int]] = field(default_factory=list)
    events: list[tuple[str, str]] = field(default_factory=list)
    ids: RunIds = field(default_factory=RunIds)

    @property
    def spec(self) -> PoolSpec:
        return parse_pool(self.body)

    @property
    def serving(self) -> str | None:
        return self.status.get("servingBuild")

    @property
    def stage(self) -> tuple[int, str] | None:
        found = self.status.get("rollout")
        return None if found is None else (found["step"], found["stage"])

    def stands(self) -> tuple[str | None, tuple[str, int] | None, tuple[int, str] | None]:
        """Who serves, the share, and the step."""
        return self.serving, self.share, self.stage

    def serves(self) -> Serving:
        """What the server would do."""
        rows = [Registration("ns", "p", one.build, "flow", "1.0", DAY) for one in self.builds]
        at = {name: DAY.replace(year=2031 + number) for number, name in enumerate(self.promoted)}
        builds = [Build("ns", "p", one.build, at.get(one.build), DAY) for one in self.builds]
        row = PoolRow("ns", "p", self.spec.versioning, False, *(self.share or (None, None)))
        return serving(rows, builds, [row])

    def load(self) -> Load:
        drawn = [run for run in self.runs if self.share is not None and run.place.trial is not None and run.place.build == self.share[0]]
        states = [run.state for run in drawn]
        trial = None if self.share is None else RolloutTrial(*self.share, len(drawn), states.count("completed"), states.count("failed"))
        return Load(
            versioning=self.spec.versioning,
            rates=LoadRates(2.0, 5.0),
            complete=True,
            lag=0,
            queued=0,
            running=0,
            due=(),
            builds=tuple(
                BuildLoad(
                    one.build,
                    one.build in self.promoted,
                    self.needed(one.build),
                    Demand(),
                    float(self.promoted.index(one.build) + 1 if one.build in self.promoted else 0),
                )
                for one in self.builds
            ),
            workers=tuple(PoolWorker(f"w-{one.build}", f"p-{one.build}", one.build, 0, False, 60) for one in self.builds),
            trial=trial,
        )

    def needed(self, build: str) -> int:
        return sum(run.state == "open" and run.place.build == build for run in self.runs)

    def deployed(self) -> tuple[DeployedBuild, ...]:
        return tuple(
            DeployedBuild(one, 1, (Pod(f"p-{one.build}", one.build, ready=one.build not in self.broken, leaving=False, ended=False, cost=None, trouble=CRASH if one.build in self.broken else None),))
            for one in reversed(self.builds)
        )  # fmt: skip

    def turn(self, *, silent: bool = False, dies_after: int | None = None) -> PoolPlan:
        """One turn; the operator may die after some of its orders, and then has written no status and remembers nothing."""
        load = LoadUnavailable(30, "ServerUnreachable", "no answer") if silent else self.load()
        progress = parse_progress(json.loads(json.dumps(self.status)).get("rollout"))
        observed = ObservedPool(self.deployed(), load, "config", self.serving, at_unix=self.now, progress=progress)
        found, memory = plan(self.spec, observed, self.memory, self.now)
        for number, order in enumerate(
            [lambda: self.unshare(found), lambda: self.promote(found), lambda: self.give(found), lambda: self.keep(found)]
        ):
            if number == dies_after:
                self.memory = PoolMemory()
                return found
            order()
        self.events += [
            (notice.reason, notice.message) for notice in (*found.notices, *turns(self.status.get("conditions", ()), found.conditions))
        ]
        conditions = [{"type": one.type, "status": one.word, "reason": one.reason} for one in found.conditions]
        self.status = {"servingBuild": found.serving, "rollout": found.rollout, "conditions": conditions}
        self.memory = memory
        return found

    def unshare(self, found: PoolPlan) -> None:
        if found.unshare is not None and self.share is not None and self.share[0] == found.unshare:
            self.end()

    def promote(self, found: PoolPlan) -> None:
        if found.promote is not None:
            self.promoted = [*(one for one in self.promoted if one != found.promote), found.promote]
            if self.share is not None and self.share[0] == found.promote:
                self.end()

    def give(self, found: PoolPlan) -> None:
        if found.share is not None:
            assert found.share[0] not in self.promoted  # the server would refuse it
            if self.share is not None and self.share[0] != found.share[0]:
                self.end()
            self.share = found.share
            self.shares.append(found.share)

    def keep(self, found: PoolPlan) -> None:
        """The builds that there are: the one of the spec has been made by now, and has registered."""
        if found.apply and self.spec.build not in {one.build for one in self.builds}:
            self.builds.append(self.spec)

    def end(self) -> None:
        """The share ends: in a pool that pins none, its runs are free."""
        self.share = None
        for run in self.runs:
            if run.place.trial == "ByVersion":
                run.place = run.place._replace(build=None, trial=None)

    def arrive(self, count: int) -> None:
        now = self.serves()
        for _ in range(count):
            run = self.ids.new()
            place = now.place("ns", "flow", None, None, run=run)
            assert place.served
            assert len(now.readers(("ns", place.pool, "flow", place.version, place.build))) == 1  # nobody's run, and nobody else's
            self.runs.append(Run(run, place))

    def work(self) -> None:
        """Runs that are open end: badly, on a bad build."""
        left = [run for run in self.runs if run.state == "open"]
        serves = self.serves().server("ns", "p", ("flow", "1.0")) if left else None
        for run in left:
            build = run.place.build or serves
            run.state = "failed" if build in self.bad else "completed"

    def live(self, length: str, *, runs: int = 0) -> None:
        """A minute after the other."""
        for _ in range(int(seconds(length) // 60)):
            self.arrive(runs)
            self.work()
            self.turn()
            self.now += 60
        self.turn()


def body(image: str, *, steps: list[dict[str, Any]] | None = None, gate: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    rollout = {"steps": STEPS if steps is None else steps} | ({} if gate is None else {"gate": gate})
    return pool_body(image=image, **{"rollout": rollout, **spec})


def begun(**more: Any) -> tuple[World, str, str]:
    """A pool with a build that serves, and one that is at its first step."""
    world = World(body("a", **more))
    for _ in range(3):
        world.turn()
    old = world.spec.build
    assert (world.serving, world.share, world.stage) == (old, None, None)  # a first build takes no steps
    world.body = body("b", **more)
    for _ in range(2):
        world.turn()
    assert (world.serving, world.share) == (old, (world.spec.build, world.spec.rollout.steps[0].percent if world.spec.rollout else 0))
    return world, old, world.spec.build


def reasons(found: PoolPlan) -> dict[str, str]:
    return {one.type: one.reason for one in found.conditions}


def message(found: PoolPlan) -> str:
    return next(one.message for one in found.conditions if one.type == "RolloutComplete")


def type_in(world: World, what: str) -> None:
    """What a person types."""
    world.body["metadata"]["annotations"] = {CONTINUE: what}


# ---- steps --------------------------------------------------------------------------------------------------------


def test_a_build_takes_its_steps_by_time_and_then_serves() -> None:
    world, old, new = begun()
    assert world.stage == (1, "Stepping")
    world.live("9m")
    assert (world.share, world.stage) == ((new, 10), (1, "Stepping"))
    world.live("2m")
    assert (world.share, world.stage) == ((new, 50), (2, "Stepping"))
    world.live("30m")
    assert (world.share, world.stage, world.serving) == ((new, 100), (3, "Stepping"), old)
    world.live("1h1m")
    assert (world.stands(), world.promoted) == ((new, None, None), [old, new])
    assert world.shares == [(new, 10), (new, 50), (new, 100)]
    assert [reason for reason, _ in world.events if reason.startswith(("Rollout", "Promoted"))] == [
        "Promoted",
        *3 * ["RolloutStep"],
        "Promoted",
    ]


def test_the_story_is_told_in_whole_words() -> None:
    world, _, new = begun(gate=GATE)
    world.arrive(40)
    world.work()
    world.memory = PoolMemory()
    found = world.turn()
    assert reasons(found)["Reconciling"] == "RolloutStepping"
    assert message(found).startswith(f"build {new} (b) gets 10 % of the new runs, step 1 of 3, until ")
    assert "runs were drawn for it" in message(found)
    assert message(found).endswith("0 fail (the gate allows 20 % from 5 runs on)")
    assert ("RolloutStep", f"build {new} gets 10 % of the new runs, step 1 of 3, for 10m") in world.events
    assert world.status["rollout"]["summary"] == "1/3 10%"
    assert {one["name"]: one["state"] for one in found.builds}[new] == "Trial"


def test_a_step_without_a_pause_waits_for_a_person_who_is_told_what_to_type() -> None:
    world, old, new = begun(steps=[{"percent": 5}, {"percent": 30}])
    world.live("3h")
    found = world.turn()
    assert (world.stage, world.serving, reasons(found)["Stalled"]) == ((1, "Paused"), old, "Progressing")
    assert f"`kubectl annotate aikiworkerpool/onboarding -n shop aiki.dev/continue={new}/1 --overwrite`" in message(found)
    assert [reason for reason, _ in world.events].count("RolloutPaused") == 1
    type_in(world, f"{new}/1")
    world.live("1m")
    assert (world.stage, world.share) == ((2, "Paused"), (new, 30))  # the word was for the first step
    type_in(world, f"{old}/2")
    world.live("1m")
    assert world.stage == (2, "Paused")
    type_in(world, f"{new}/all")
    world.live("1m")
    assert world.serving == new


@pytest.mark.parametrize("at", ["0m", "5m", "15m", "41m"])
def test_a_new_leader_goes_on_in_the_middle_of_a_step(at: str) -> None:
    """S42: it knows what the status says, and nothing else; the end is at the same minute."""
    world, _, new = begun()
    world.live(at)
    before = world.status["rollout"], world.share
    world.memory = PoolMemory()
    found = world.turn()
    assert (world.status["rollout"], world.share) == before
    assert (found.share, found.promote) == (None, None)
    left = seconds("1h40m") - seconds(at)
    world.live(f"{int(left // 60) - 2}m")
    assert world.serving != new
    world.live("5m")
    assert world.serving == new


@pytest.mark.parametrize("dies_after", range(4))
def test_an_operator_that_dies_between_any_two_orders_skips_no_step(dies_after: int) -> None:
    world, _, new = begun()
    for _ in range(12):
        world.now += 60
        world.turn(dies_after=dies_after)
        world.turn()
    assert (world.stage, world.share) == ((2, "Stepping"), (new, 50))
    assert world.shares[-1] == (new, 50)
    assert [percent for _, percent in world.shares] == sorted(percent for _, percent in world.shares)


def test_a_silent_server_changes_nothing() -> None:
    world, old, _ = begun()
    before = world.status["rollout"], world.share
    world.now += 3600
    found = world.turn(silent=True)
    assert (world.status["rollout"], world.share, world.serving) == (*before, old)
    assert (found.share, found.unshare, found.promote) == (None, None, None)


def test_steps_that_are_changed_hold_at_once() -> None:
    world, _, new = begun()
    world.body = body("b", steps=[{"percent": 33, "pause": "1h"}])
    world.turn()
    assert world.share == (new, 33)
    world.body = pool_body(image="b")
    world.turn()
    assert world.stands() == (new, None, None)


# ---- the gate -----------------------------------------------------------------------------------------------------


def test_a_bad_build_is_held_gets_no_new_runs_and_stays_held() -> None:
    world, old, new = begun(gate=GATE)
    world.bad = {new}
    world.live("9m", runs=80)
    found = world.turn()
    assert (world.stage, world.share, world.serving) == ((1, "Held"), (new, 0), old)
    assert reasons(found)["Stalled"] == reasons(found)["Ready"] == "RolloutHeld"
    assert "runs fail (100 %), and the gate allows 20 %. It gets no new runs" in message(found)
    assert f"build {old} does" in message(found)
    assert [reason for reason, _ in world.events].count("RolloutHeld") == 1
    assert world.status["rollout"]["summary"] == "1/3 held"
    before = len(world.runs)
    world.bad = set()
    for run in world.runs:
        run.state = "completed"  # what failed was retried by hand
    world.live("3h", runs=5)
    assert (world.stage, world.serving) == ((1, "Held"), old)
    assert {run.place.build for run in world.runs[before:]} == {None}


def test_a_good_build_passes_the_gate_and_nobody_goes_on_without_having_seen_enough() -> None:
    world, old, new = begun(gate={"maxFailedPercent": 0, "minRuns": 3})
    world.live("5h")
    found = world.turn()
    assert (world.stage, world.serving) == ((1, "Stepping"), old)
    assert "until 3 of its runs have ended or fail" in message(found)
    world.live("2h", runs=20)
    assert world.serving == new


def test_fewer_failures_than_the_gate_allows_hold_nothing() -> None:
    world, _, new = begun(gate=GATE, steps=[{"percent": 100, "pause": "5m"}])
    world.arrive(100)
    for number, run in enumerate(world.runs):
        run.state = "failed" if number < 20 else "completed"
    world.live("6m")
    assert world.serving == new


@pytest.mark.parametrize("mend", ["former", "another", "word", "gate", "no gate", "no steps"])
def test_what_lets_a_held_build_go(mend: str) -> None:
    world, old, new = begun(gate=GATE)
    world.bad = {new}
    world.live("5m", runs=100)
    assert world.stage == (1, "Held")
    if mend == "former":
        world.body = body("a", gate=GATE)
        world.live("2m", runs=5)
        assert (world.stands(), world.promoted) == ((old, None, None), [old])
        assert {run.place.build for run in world.runs} == {None}  # the former build takes them
        return
    if mend == "another":
        world.body = body("c", gate=GATE)
        world.live("2m", runs=5)
        assert (world.share, world.stage) == ((world.spec.build, 10), (1, "Stepping"))
        assert {run.place.build for run in world.runs} <= {None, world.spec.build}
        return
    if mend == "word":
        type_in(world, f"{new}/all")
    else:
        ways: dict[str, dict[str, Any]] = {
            "gate": {"gate": {"maxFailedPercent": 99, "minRuns": 500}},
            "no gate": {},
            "no steps": {"rollout": None},
        }
        changed = ways[mend]
        world.body = body("b", **changed)
    world.live("2m")
    assert world.stage == ((1, "Stepping") if mend in ("gate", "no gate") else None)
    assert (world.serving == new) == (mend in ("word", "no steps"))


def test_the_way_back_after_a_takeover_takes_no_steps() -> None:
    world, old, new = begun()
    world.live("2h")
    assert world.serving == new
    world.body = body("a")
    world.turn()
    assert (world.serving, world.promoted, world.stage) == (old, [new, old], None)
    world.body = body("b")
    world.turn()
    assert world.serving == new  # it has served as well


def test_a_build_none_of_whose_pods_works_gets_no_new_runs_until_one_does() -> None:
    world, _, new = begun()
    world.broken = {new}
    found = world.turn()
    assert (world.share, world.stage, reasons(found)["Stalled"]) == ((new, 0), (1, "Unhealthy"), "CrashLoop")
    world.live("3h")
    assert world.stage == (1, "Unhealthy")
    world.broken = set()
    world.turn()
    assert (world.share, world.stage) == ((new, 10), (1, "Stepping"))
    world.live("9m")
    assert world.stage == (1, "Stepping")  # anew, from when it works


@pytest.mark.parametrize("at", ["1m", "15m"])
def test_a_status_that_is_lost_lets_no_build_skip_its_steps(at: str) -> None:
    """As a restore of the cluster leaves it: the server still says who has taken over."""
    world, old, new = begun()
    world.live(at)
    world.status, world.memory = {}, PoolMemory()
    world.turn()
    assert world.stands() == (old, (new, 10), (1, "Stepping"))  # from the first one, for nobody knows how far it was
    world.live("2h")
    assert world.serving == new


def test_a_server_that_has_forgotten_who_serves_is_told_again() -> None:
    """A new database behind the server: the share would be of nothing."""
    world, old, _ = begun()
    world.promoted = []
    found = world.turn()
    assert found.promote == old
    assert world.serving == old


# ---- sizes --------------------------------------------------------------------------------------------------------


def test_both_builds_have_pods_for_what_waits_for_each() -> None:
    world, old, new = begun(maxReplicas=10, concurrency=1, steps=[{"percent": 40, "pause": "1h"}])
    busy = world.load()
    demands = {old: Demand(queued=100, running=10), new: Demand(queued=100, running=10)}
    busy = replace(busy, builds=tuple(replace(one, demand=demands[one.name]) for one in busy.builds))
    progress = parse_progress(world.status["rollout"])
    found, _ = plan(
        world.spec, ObservedPool(world.deployed(), busy, "c", old, at_unix=world.now, progress=progress), PoolMemory(), world.now
    )
    sizes = {one["name"]: one["replicas"] for one in found.builds}
    assert sizes == {old: 6, new: 4}


# ---- whatever happens ---------------------------------------------------------------------------------------------

moments = st.tuples(st.sampled_from(["time", "runs", "image", "silence", "death", "back", "word"]), st.integers(0, 40), st.integers(1, 15))


@settings(max_examples=15, deadline=None)
@given(life=st.lists(moments, max_size=12), versioning=st.sampled_from(list(Versioning)))
def test_whatever_happens_shares_are_those_of_steps_no_run_moves_and_a_bad_build_never_serves(
    life: list[tuple[str, int, int]], versioning: Versioning
) -> None:
    more: dict[str, Any] = {"gate": GATE, "versioning": str(versioning)}
    world = World(body("a", **more))
    world.turn()
    world.turn()
    world.bad = {parse_pool(body("bad", **more)).build}
    for what, much, turns_ in life:
        if what == "image":
            world.body = body(("a", "b", "bad")[much % 3], **more)
        if what == "word" and world.spec.build not in world.bad:
            type_in(world, f"{world.spec.build}/{1 + much % 3}")
        for _ in range(turns_):
            kept, share = {run.id: run.place.build for run in world.runs}, world.share
            if what in ("runs", "image"):
                world.arrive(much)
            world.work()
            world.turn(silent=what == "silence", dies_after=much % 5 if what == "death" else None)
            world.now += 3600 if what == "time" else -60 if what == "back" else 60
            assert world.share is None or world.share[1] in (0, 10, 50, 100)
            if world.share is not None and share is not None and world.share[0] == share[0]:
                assert all(run.place.build == kept.get(run.id, run.place.build) for run in world.runs)
            if versioning is Versioning.PINNED:
                assert all(run.place.build == kept.get(run.id, run.place.build) for run in world.runs)
            assert world.serving not in world.bad
            assert world.spec.build not in world.bad or world.stage is None or world.stage[0] == 1 or world.share == (world.spec.build, 0)
    world.body = body("b", **more)
    for _ in range(30):
        world.arrive(20)
        world.work()
        world.turn()
        world.now += 900
    assert (world.serving, world.share, world.stage) == (world.spec.build, None, None)

"""Roll-outs in steps by the real shells: what is written, what people see, and what a new leader finds; and by a real server, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client import REGISTRY

from aiki_operator.kubernetes.client import Cluster
from aiki_operator.plan.pods import Pod
from aiki_operator.plan.pool.plan import PoolMemory, plan
from aiki_operator.plan.pool.progress import parse_progress
from aiki_operator.plan.pool.state import DeployedBuild, ObservedPool
from aiki_operator.scaling.load import Load, RolloutTrial
from aiki_operator.server_api import ServerApi
from aiki_operator.spec.pool import parse_pool
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import build_load, load, pool_body, server_body, worker
from support.operator.turns import BUILD, POOL, Operator, condition, patch, ready, start_pods
from support.server import ServerProcess
from support.waiting import until

STEPS = {"steps": [{"percent": 10, "pause": "10m"}, {"percent": 50}], "gate": {"maxFailedPercent": 10, "minRuns": 5}}


@pytest.fixture
def there() -> list[dict[str, Any]]:
    return [server_body(), pool_body(rollout=STEPS)]


def both(kubernetes: FakeKubernetes, new: str, *, trial: RolloutTrial | None = None) -> Load:
    """What the server says while both builds have a pod."""
    workers = tuple(worker(name, build=BUILD if BUILD in name else new) for name in start_pods(kubernetes))
    return replace(load(build_load(BUILD), build_load(new, promoted=False), workers=workers), trial=trial)


async def stepping(kubernetes: FakeKubernetes, operator: Operator) -> str:
    """A pool whose second build is at its first step; its name."""
    await operator.pool()
    await operator.pool(
        load(build_load(BUILD, promoted=False), workers=tuple(worker(name, build=BUILD) for name in start_pods(kubernetes)))
    )
    patch(kubernetes, POOL, image="example.com/onboarding:2")
    new = parse_pool(kubernetes.objects[POOL]).build
    await operator.pool(load(build_load(BUILD)))
    await operator.pool(both(kubernetes, new))
    return new


def rollout(kubernetes: FakeKubernetes) -> dict[str, Any]:
    found: dict[str, Any] = kubernetes.objects[POOL]["status"]["rollout"]
    return found


def events(kubernetes: FakeKubernetes) -> list[tuple[str, str]]:
    return [(event["type"], event["reason"]) for event in kubernetes.of("Event")]


def figure(name: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"namespace": "shop", "pool": "onboarding"})


async def test_a_step_is_written_once_and_told(kubernetes: FakeKubernetes, operator: Operator) -> None:
    new = await stepping(kubernetes, operator)
    assert operator.orders.given[-1] == ("share", "onboarding", new, "10")
    assert (rollout(kubernetes)["summary"], ready(kubernetes, POOL)) == ("1/2 10%", ("False", "RolloutStepping"))
    assert ("Normal", "RolloutStep") in events(kubernetes)
    assert not [kind for kind, reason in events(kubernetes) if kind == "Warning"]
    assert (figure("aiki_pool_rollout_percent"), figure("aiki_pool_rollout_held")) == (10, 0)
    await operator.pool(both(kubernetes, new, trial=RolloutTrial(new, 10)))
    given = len(operator.orders.given)
    for runs in range(5):  # figures are told every few seconds, not with each run
        assert await operator.pool(both(kubernetes, new, trial=RolloutTrial(new, 10, runs, runs, 0))) == []
    assert len(operator.orders.given) == given


async def test_a_new_leader_goes_on_at_the_same_step(kubernetes: FakeKubernetes, cluster: Cluster, operator: Operator) -> None:
    new = await stepping(kubernetes, operator)
    before = rollout(kubernetes)
    again = Operator(kubernetes, cluster)
    await again.pool(both(kubernetes, new, trial=RolloutTrial(new, 10)))
    assert (again.orders.given, rollout(kubernetes)) == ([], before)


async def test_a_step_that_the_server_does_not_take_has_not_begun(kubernetes: FakeKubernetes, operator: Operator) -> None:
    operator.orders.refuses_shares = True
    new = await stepping(kubernetes, operator)
    assert "rollout" not in kubernetes.objects[POOL]["status"]
    assert condition(kubernetes, POOL, "ServerReachable")["reason"] == "ServerError"
    assert ("Normal", "RolloutStep") not in events(kubernetes)
    operator.orders.refuses_shares = False
    await operator.pool(both(kubernetes, new))
    assert rollout(kubernetes)["step"] == 1


async def test_a_held_build_is_a_warning_a_condition_and_a_figure(kubernetes: FakeKubernetes, operator: Operator) -> None:
    new = await stepping(kubernetes, operator)
    await operator.pool(both(kubernetes, new, trial=RolloutTrial(new, 10, 20, 6, 4)))
    assert ("share", "onboarding", new, "0") in operator.orders.given
    stalled = condition(kubernetes, POOL, "Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "RolloutHeld")
    assert "4 of 10 runs fail (40 %), and the gate allows 10 %" in stalled["message"]
    assert events(kubernetes).count(("Warning", "RolloutHeld")) == 1
    assert (figure("aiki_pool_rollout_percent"), figure("aiki_pool_rollout_held")) == (0, 1)
    assert (rollout(kubernetes)["stage"], rollout(kubernetes)["allowedPercent"]) == ("Held", 10)
    patch(kubernetes, POOL, image="example.com/onboarding:1")
    await operator.pool(both(kubernetes, new, trial=RolloutTrial(new, 0, 20, 6, 4)))
    assert ("unshare", "onboarding", new) in operator.orders.given
    assert (ready(kubernetes, POOL)[0], "rollout" in kubernetes.objects[POOL]["status"]) == ("True", False)
    assert (figure("aiki_pool_rollout_percent"), figure("aiki_pool_rollout_held")) == (100, 0)


async def test_a_promotion_that_the_server_does_not_take_leaves_the_step_as_it_is(
    kubernetes: FakeKubernetes, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = await stepping(kubernetes, operator)
    body = kubernetes.objects[POOL]
    kubernetes.put({**body, "metadata": {**body["metadata"], "annotations": {"aiki.dev/continue": f"{new}/all"}}})
    before = rollout(kubernetes)

    async def refuse(pool: str, build: str) -> bool:
        return False

    with monkeypatch.context() as patched:
        patched.setattr(operator.orders, "promote", refuse)
        await operator.pool(both(kubernetes, new, trial=RolloutTrial(new, 10)))
    assert (rollout(kubernetes), kubernetes.objects[POOL]["status"]["servingBuild"]) == (before, BUILD)
    await operator.pool(both(kubernetes, new, trial=RolloutTrial(new, 10)))
    assert (kubernetes.objects[POOL]["status"]["servingBuild"], "rollout" in kubernetes.objects[POOL]["status"]) == (new, False)


# ---- with a real server -------------------------------------------------------------------------------------------


class Pool:
    """A pool at a real server, with a worker for each build that runs no code, and the operator's plan and client; its clock is the test's."""

    def __init__(self, session: aiohttp.ClientSession, url: str, name: str) -> None:
        self.session, self.url, self.name = session, f"{url}/api/v1", name
        self.control = ServerApi(session, url, "none")
        self.body = pool_body(name=name, image="1", rollout=STEPS)
        self.status: dict[str, Any] = {}
        self.deployed: list[DeployedBuild] = []
        self.now = 1_000_000.0

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        async with self.session.request(method, self.url + path, json=body) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.content_type == "application/json" else None

    async def deploy(self, image: str) -> str:
        """A build with a pod, whose worker has registered."""
        self.body["spec"]["image"] = image
        spec = parse_pool(self.body)
        pod = Pod(f"{self.name}-{image}", spec.build, ready=True, leaving=False, ended=False, cost=None, trouble=None)
        self.deployed.insert(0, DeployedBuild(spec, 1, (pod,)))
        carried = [{"workflow": self.name, "version": "1.0"}]
        await self.call(
            "POST",
            "/worker/register",
            {"worker": pod.name, "pool": self.name, "build": spec.build, "pod": pod.name, "concurrency": 100, "workflows": carried},
        )
        return spec.build

    async def turn(self) -> None:
        answer = (await self.control.loads(0.0))[self.name]
        observed = ObservedPool(
            tuple(self.deployed),
            answer,
            "c",
            self.status.get("servingBuild"),
            at_unix=self.now,
            progress=parse_progress(self.status.get("rollout")),
        )
        found, _ = plan(parse_pool(self.body), observed, PoolMemory(), self.now)
        if found.unshare is not None:
            await self.control.unshare(self.name, found.unshare)
        if found.promote is not None:
            await self.control.promote(self.name, found.promote)
        if found.share is not None:
            await self.control.share(self.name, *found.share)
        self.status = {"servingBuild": found.serving, "rollout": found.rollout}

    async def start(self, count: int) -> None:
        starts = [{"workflow": self.name} for _ in range(count)]
        await self.call("POST", "/runs:batch", {"runs": starts})

    async def work(self, image: str, *, status: str) -> int:
        """The worker of a build ends all that it is given; how many."""
        name = f"{self.name}-{image}"
        runs = (await self.call("POST", "/worker/claim", {"worker": name, "runs": None, "limit": 100}))["runs"]
        entry = {"completed": "completed", "failed": "failed_run"}[status]
        error = {"type": "E", "message": "m"} if status == "failed" else None
        ops = [
            {
                "run": run["id"], "epoch": run["epoch"], "number": 1, "entries": f'[{{"k":"{entry}","at":1}}]', "count": 1,
                "finish": {"status": status, "output": None if error else "null", "error": error},
            }
            for run in runs
        ]  # fmt: skip
        answers = (await self.call("POST", "/worker/commit", {"worker": name, "ops": ops}))["answers"] if ops else []
        assert all(answer["outcome"] == "ok" for answer in answers)
        return len(ops)


@pytest.fixture
def polled(own_database: str, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server without Redis: the workers here ask for what there is."""
    process = ServerProcess(own_database, None, log=tmp_path / "server.log")
    process.start()
    yield process
    process.stop()


async def until_judged(pool: Pool, runs: int) -> None:
    """The server counts them anew every few seconds."""

    async def judged() -> bool:
        trial = (await pool.control.loads(0.0))[pool.name].trial
        return trial is not None and trial.judged >= runs

    await until(judged, seconds=20)


async def test_a_good_build_takes_its_steps_and_a_bad_one_is_held_by_a_real_server(polled: ServerProcess, unique: str) -> None:
    async with aiohttp.ClientSession() as session:
        pool = Pool(session, polled.url, f"p{unique}")
        first = await pool.deploy("1")
        await pool.turn()
        assert pool.status["servingBuild"] == first
        second = await pool.deploy("2")
        await pool.turn()
        await pool.start(400)
        drawn = await pool.work("2", status="completed")
        assert 10 <= drawn <= 100
        assert drawn + sum([await pool.work("1", status="completed") for _ in range(5)]) == 400
        await until_judged(pool, drawn)
        pool.now += 601
        await pool.turn()
        assert (pool.status["rollout"]["step"], pool.status["rollout"]["percent"]) == (2, 50)
        pool.body["metadata"]["annotations"] = {"aiki.dev/continue": f"{second}/2"}
        await pool.turn()
        assert (pool.status["servingBuild"], pool.status["rollout"]) == (second, None)

        third = await pool.deploy("3")
        await pool.turn()
        await pool.start(400)
        await until_judged(pool, await pool.work("3", status="failed"))
        await pool.turn()
        assert (pool.status["rollout"]["stage"], pool.status["servingBuild"]) == ("Held", second)
        await pool.start(100)
        assert await pool.work("3", status="completed") == 0
        pool.body["spec"]["image"] = "2"
        await pool.turn()
        assert pool.status == {"servingBuild": second, "rollout": None}
        assert third in {build.name for build in (await pool.control.loads(0.0))[pool.name].builds}
        left = sum([await pool.work("2", status="completed") for _ in range(8)])
        assert left >= 400  # the hundred, and those of the four hundred that were never drawn
        assert (await pool.control.loads(0.0))[pool.name].queued == 0

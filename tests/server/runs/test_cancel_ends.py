"""An accepted cancel ends its run: told to the code where somebody can run it, else by the server, which says what was not compensated (S27)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from aiki_server.engine.commit.left_behind import Left, because, not_compensated
from aiki_server.engine.dispatch.routing import serving
from aiki_server.engine.recovery.unheard import AWAY_SECONDS, Unheard, out_of_reach
from aiki_server.model.workers import Build, Registration, WorkerRow
from support.fake_worker import FakeWorker
from support.runs import kinds, run_of
from support.waiting import until

CHARGED = [
    {"k": "call", "c": 0, "a": "task:charge:1", "l": "charge(amount=10)"},
    {"k": "done", "c": 0, "at": 1, "v": 1},
    {"k": "call", "c": 1, "a": "sleep::1", "l": "sleep(60)"},
]
STOP = {"type": "Divergence", "message": "flow 1.0 diverged at charge(amount=12)"}
LEFT = "Nothing was compensated: no `finally` and no saga of it ran, and what it had done stands: charge(amount=10)."


async def cancel(api, run, **body):
    return await api.post(f"/api/v1/runs/{run}/cancel", body or None)


async def stopped(worker):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.op(run, *CHARGED, stop=STOP)) == "parked"
    return run


async def test_a_run_that_cannot_be_replayed_ends_when_it_is_cancelled(api, worker):
    run = await stopped(worker)
    assert (await run_of(api, run))["status"] == "paused"
    assert (await cancel(api, run, reason="give up")).json()["status"] == "queued"
    await worker.claim(run)
    assert await worker.outcome(worker.op(run, stop=STOP)) == "parked"
    ended = await run_of(api, run)
    assert ended["status"] == "cancelled"
    assert ended["error"]["message"] == f"cancelled: give up; its code could not be told: {STOP['message']} {LEFT}"
    assert (await kinds(api, run))[-2:] == ["queued", "cancelled"]


async def test_a_cancel_that_meets_the_stop_of_its_run_ends_it(api, worker):
    run = await worker.start_and_claim()
    await cancel(api, run)
    assert await worker.outcome(op := worker.op(run, *CHARGED, stop=STOP)) == "parked"
    assert (await run_of(api, run))["status"] == "cancelled"
    assert await worker.outcome(op) == "parked"  # its repetition
    assert (await kinds(api, run)).count("cancelled") == 1


async def test_a_child_that_ends_so_wakes_its_parent(api, worker):
    parent = await worker.start_and_claim()
    child = parent[:14] + "c" * 18
    start = {"id": child, "workflow": "flow", "input": "1", "on_parent_close": "cancel"}
    park: dict[str, Any] = {"inbox_seen": 0, "due_at": None, "events": [], "children": True, "waits": []}
    assert await worker.outcome(worker.op(parent, {"k": "call", "c": 0, "a": "child"}, children=[start], park=park)) == "parked"
    await worker.claim(child)
    assert await worker.outcome(worker.op(child, CHARGED[0])) == "ok"
    await cancel(api, child)
    assert await worker.outcome(worker.op(child, *CHARGED, stop=STOP)) == "parked"
    assert (await run_of(api, parent))["status"] == "queued"
    (claimed,) = await worker.claim(parent)
    assert [(item["kind"], item["status"]) for item in claimed["inbox"]] == [("child", "cancelled")]


@pytest.mark.parametrize("state", ["queued", "running", "waiting", "paused", "asked"])
async def test_force_ends_a_run_in_whatever_state_and_its_worker_is_stale(api, worker, state):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.op(run, *CHARGED)) == "ok"
    match state:
        case "queued":
            await worker.commit(worker.op(run, release=True))
        case "waiting":
            await worker.commit(worker.parking(run, events=["go"]))
        case "paused":
            await worker.commit(worker.op(run, stop=STOP))
        case "asked":
            await cancel(api, run)
    reply = await cancel(api, run, reason="enough", force=True)
    assert (reply.status, reply.json()["status"]) == (200, "cancelled")
    assert (await run_of(api, run))["error"]["message"] == f"cancelled by force: enough; its code was not told. {LEFT}"
    assert (await kinds(api, run))[-1] == "cancelled"
    assert (await worker.inbox(run, inbox_seen=0))["stale"]
    assert await worker.outcome(worker.op(run, CHARGED[1])) == "stale"
    assert (await cancel(api, run, force=True)).json()["status"] == "cancelled"
    assert (await kinds(api, run)).count("cancelled") == 1


async def test_force_reaches_the_children_and_no_ended_run(api, worker):
    parent = await worker.start_and_claim()
    child = parent[:14] + "d" * 18
    await worker.commit(
        worker.op(parent, CHARGED[0], children=[{"id": child, "workflow": "flow", "input": "1", "on_parent_close": "cancel"}])
    )
    await cancel(api, parent, force=True)

    async def ended():
        return (await run_of(api, child))["status"] == "cancelled"

    await until(ended)
    done = await worker.start_and_claim()
    await worker.finish(done, 1)
    assert (await cancel(api, done, force=True)).status == 409


async def test_force_finds_no_run_of_another_namespace(api, worker, other):
    run = await worker.start_and_claim()
    assert (await cancel(other, run, force=True)).status == 404
    assert (await run_of(api, run))["status"] == "running"


async def test_a_reason_is_kept_where_a_run_never_began(api, worker):
    run = (await api.post("/api/v1/runs", {"workflow": "flow", "input": 1})).json()["id"]
    await cancel(api, run, reason='he said "no"')
    assert (await run_of(api, run))["error"]["message"] == 'The run was cancelled before it began: he said "no"'


async def test_a_run_whose_version_nobody_carries_any_more_ends_when_it_is_cancelled(api, worker, db):
    run = await worker.start_and_claim()
    assert await worker.outcome(worker.parking(run, *CHARGED, events=["go"])) == "parked"
    await worker.register(("other-flow", "1.0"))
    await cancel(api, run, reason="give up")
    await db.execute("update runs set updated_at = now() - interval '4 seconds' where id = $1", UUID(run))

    async def ended():
        return (await run_of(api, run))["status"] == "cancelled"

    async def beat():
        await worker.heartbeat()
        return await ended()

    await until(beat)
    said = (await run_of(api, run))["error"]["message"]
    assert said == f"cancelled: give up; its code could not be told: no worker of pool main carries flow 1.0. {LEFT}"


async def test_a_run_that_a_worker_carries_waits_for_it_to_be_told(api, worker, db):
    told, lost = await worker.start_and_claim(), await worker.start_and_claim()
    for run in (told, lost):
        assert await worker.outcome(worker.parking(run, *CHARGED, events=["go"])) == "parked"
    await FakeWorker(api, "w2").register(("gone", "1.0"))
    await db.execute("update runs set workflow = 'gone', version = '2.0' where id = $1", UUID(lost))
    for run in (told, lost):
        await cancel(api, run)
    await db.execute("update runs set updated_at = now() - interval '4 seconds'")

    async def ended():
        await worker.heartbeat()
        return (await run_of(api, lost))["status"] == "cancelled"

    await until(ended)  # both were looked at
    assert (await run_of(api, told))["status"] == "queued"


# ---- who is in reach

AT = datetime(2030, 1, 1, tzinfo=UTC)


def worker_row(*carries, namespace="ns", pool="main", build=None, silent=0.0):
    return WorkerRow(namespace, "w", pool, build, None, list(carries), 1, 0, False, AT, AT, silent)


def waiting(*, build=None, seconds=20.0):
    return Unheard(UUID(int=1), "ns", "flow", "1.0", "main", build, 1, seconds)


def carried_by(build):
    return serving([Registration("ns", "main", build, "flow", "1.0", AT)], [Build("ns", "main", build, None, AT)] if build else [], [])


@pytest.mark.parametrize(
    ("run", "workers", "build", "expected"),
    [
        (waiting(), [worker_row("other@1.0")], "", True),
        (waiting(seconds=14), [worker_row("other@1.0")], "", False),
        (waiting(), [worker_row("flow@1.0")], "", False),
        (waiting(), [worker_row("flow@1.0", silent=16), worker_row("other@1.0")], "", True),
        (waiting(), [worker_row("flow@1.0", namespace="else"), worker_row("other@1.0")], "", True),
        (waiting(), [worker_row("flow@1.0", pool="else"), worker_row("other@1.0")], "", True),
        (waiting(), [], "", False),
        (waiting(seconds=AWAY_SECONDS), [], "", True),
        (waiting(), [worker_row("other@1.0", namespace="else")], "", False),
        (waiting(seconds=9999), [worker_row("other@1.0")], "b1", False),
        (waiting(build="b1"), [worker_row("flow@1.0", build="b2")], "b1", False),
        (waiting(build="b1"), [worker_row("flow@1.0", build="b2")], "b2", True),
        (waiting(build="b1"), [worker_row("flow@1.0", build="b1")], "b2", False),
    ],
)
def test_whom_nobody_can_tell(run, workers, build, expected):
    assert out_of_reach(run, serving=carried_by(build), workers=workers, lease=15.0) is expected


def test_what_was_not_compensated_is_said():
    assert not_compensated(Left(None, [])) == "No task of it had ended, so there was nothing to compensate."
    entries = [
        entry for call in range(13) for entry in ({"k": "call", "c": call, "a": "child:f:1", "l": f"f({call})"}, {"k": "done", "c": call})
    ]
    said = not_compensated(Left(None, [json.dumps(entries[:5]), json.dumps(entries[5:])]))
    assert said.endswith("stands: f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9) and 3 more.")
    assert [because(None), because("null"), because('"x"')] == ["", "", ": x"]

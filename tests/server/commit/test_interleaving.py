"""Laws over parties that work at once: two servers, two tenants of equal names, their workers and clients, and somebody who declares workers lost.

S2 S7 S8 S9 S13 S14 S15 S24 S26 S27 S29 S30 I45, and that nothing is left behind: workers take only what was rung, no sweep comes by itself, nobody polls.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import asyncpg
import pytest

from aiki_server.settings import Settings
from support.fake_worker import FakeWorker
from support.interleaving import Gate, interleave
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "task:step:1"}
TOKENS = {"default": "token", "other": "other-token"}
MOST_STEPS = 6
RUNS = 5
ENDED = {"completed", "failed", "cancelled"}
SOON_MICROS = 20_000


@pytest.fixture
def settings(unaided: Settings) -> Settings:
    return unaided


@dataclass
class Tenant:
    """What one tenant knows: what it was promised."""

    name: str
    servers: list[Any]
    random: Random
    roots: dict[str, str] = field(default_factory=dict)
    """Refs, and the runs that they were answered with."""
    rings: list[str] = field(default_factory=list)
    sent: dict[str, list[int]] = field(default_factory=dict)
    """Of each run, the numbers of the events that were acknowledged."""
    cancelled: set[str] = field(default_factory=set)
    outputs: dict[str, Any] = field(default_factory=dict)
    """What was acknowledged as the output of a run."""
    told: dict[str, Any] = field(default_factory=dict)
    """What those who waited for a result were told."""
    done: bool = False
    children: int = 0
    born: dict[str, set[str]] = field(default_factory=dict)
    """Of each run, the children that its commits were acknowledged for."""
    look: Any = None
    """A connection of the test's own, which waits at no gate."""
    looking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def server(self) -> Any:
        """Either of the two, as a Service would choose."""
        return self.random.choice(self.servers)

    def child(self) -> str:
        """The id of a new child; each tenant's are its own."""
        self.children += 1
        return f"{(0xA if self.name == 'default' else 0xB) << 64 | self.random.getrandbits(32) << 16 | self.children:032x}"


# ---- the parties


async def serve(tenant: Tenant, name: str) -> None:
    """A worker: takes what was rung, and does with each run something random until it gives it back."""
    worker = FakeWorker(tenant.server, name)
    await worker.register()
    while not tenant.done:
        worker.api = tenant.server
        if not tenant.rings:
            await asyncio.sleep(0)
            continue
        run = tenant.rings.pop(tenant.random.randrange(len(tenant.rings)))
        reply = await worker.api.post("/api/v1/worker/claim", {"worker": name, "runs": [run]})
        if reply.status == 409:  # declared lost: what was rung is still there
            tenant.rings.append(run)
            await worker.register()
            continue
        tenant.rings += reply.json().get("remaining", [])
        for claimed in reply.json()["runs"]:
            worker.epochs[run], worker.numbers[run] = claimed["epoch"], 0
            await _carry_out(tenant, worker, claimed)


async def _open_runs(tenant: Tenant) -> list[Any]:
    async with tenant.looking:
        return list(await tenant.look.fetch(OPEN, tenant.name))


async def _carry_out(tenant: Tenant, worker: FakeWorker, claimed: dict[str, Any]) -> None:
    run, inbox, seen = claimed["id"], list(claimed["inbox"]), claimed["inbox_seq"]
    assert json.loads(claimed["input"])["of"] == tenant.name, "I45 a run of another tenant was given out"
    steps = sum(len(json.loads(chunk)) for chunk in claimed["history"])
    for _ in range(MOST_STEPS):
        worker.api = tenant.server
        op = _next(tenant, worker, run, inbox, seen, steps=steps)
        (answer,) = await worker.commit(op)
        steps += 1
        if answer["outcome"] != "stale":
            tenant.born.setdefault(run, set()).update(child["id"] for child in op.get("children", ()))
        if answer["outcome"] == "inbox_pending":
            inbox += answer["inbox"]
            seen = max([seen, *(item["seq"] for item in answer["inbox"])])
            continue
        assert answer["outcome"] in {"ok", "parked", "stale"}, answer
        if answer["outcome"] == "ok" and op.get("finish"):
            tenant.outputs[run] = json.loads(op["finish"]["output"]) if op["finish"]["output"] else None
        if answer["outcome"] != "ok" or op.get("finish"):
            return
    await worker.commit(worker.op(run, release=True))


def _next(tenant: Tenant, worker: FakeWorker, run: str, inbox: list[dict[str, Any]], seen: int, *, steps: int) -> dict[str, Any]:
    consumed = [item["seq"] for item in inbox]
    if any(item["kind"] == "cancel" for item in inbox):
        return worker.finishing(run, status="cancelled", consumed=consumed)
    if steps > 2 * MOST_STEPS:
        return worker.finishing(run, {"by": run}, consumed=consumed)
    chance, few = tenant.random.random(), tenant.children < 3 * RUNS
    if chance < 0.3 and few:
        policy = tenant.random.choice(["cancel", "abandon"])
        child = {"id": tenant.child(), "workflow": "flow", "input": json.dumps({"of": tenant.name}), "on_parent_close": policy}
        cancel_children = {"cancel_children": [child["id"]]} if tenant.random.random() < 0.3 else {}
        return worker.op(run, CALL, children=[child], **cancel_children)
    if chance < 0.4:
        return worker.op(run, CALL)
    if chance < 0.5:
        return worker.op(run, release=True)
    if chance < 0.6:
        return worker.finishing(run, {"by": run}, status=tenant.random.choice(["completed", "failed"]), consumed=consumed)
    due = worker.registered["now"] + tenant.random.randrange(SOON_MICROS)
    open_children = tenant.born.get(run, set()) - {item["child"] for item in inbox}
    waits: list[dict[str, Any]] = [
        {"events": ["go"]},
        {"due_at": due},
        {"events": ["go"], "due_at": due},
        {"events": ["go"], "children": True},
    ]
    waits += [{"children": True}] * 4 if open_children else []
    return worker.parking(run, CALL, inbox_seen=seen, **tenant.random.choice(waits))


async def use(tenant: Tenant) -> None:
    """A client: starts runs under refs that the other tenant has too, sends events, cancels, pauses, resumes, waits for results."""
    for number in range(RUNS):
        ref = f"order-{number}"
        start = {"workflow": "flow", "version": "1.0", "pool": "main", "ref": ref, "input": {"of": tenant.name}}
        replies = await asyncio.gather(*[tenant.server.post("/api/v1/runs", start) for _ in range(tenant.random.choice([1, 2]))])
        (run,) = {reply.json()["id"] for reply in replies}
        tenant.roots[ref] = run
        await asyncio.gather(*[_meddle(tenant, tenant.random.choice(list(tenant.roots.values()))) for _ in range(3)])
    while left := await _open_runs(tenant):
        for run in left:
            await _help(tenant, run["id"].hex, run["status"])
        await asyncio.sleep(0)
    tenant.done = True


async def _meddle(tenant: Tenant, run: str) -> None:
    chance = tenant.random.random()
    if chance < 0.5:
        event = {"name": "go", "payload": 1, "id": f"e{tenant.random.randrange(5)}"}
        reply = await tenant.server.post(f"/api/v1/runs/{run}/events", event)
        if reply.status in {200, 201}:
            tenant.sent.setdefault(run, []).append(reply.json()["seq"])
    elif chance < 0.6:
        if (await tenant.server.post(f"/api/v1/runs/{run}/cancel")).status == 200:
            tenant.cancelled.add(run)
    elif chance < 0.8:
        await tenant.server.post(f"/api/v1/runs/{run}/{tenant.random.choice(['pause', 'resume'])}")
    else:
        reply = await tenant.server.get(f"/api/v1/runs/{run}/result", timeout=0.02)
        if reply.status == 200:
            tenant.told[run] = reply.json()


OPEN = """
select run.id, case when run.parent is null or run.on_parent_close = 'abandon' or parent.finished_at is null then run.status end as status
from runs run left join runs parent on parent.id = run.parent
where run.namespace = $1 and run.finished_at is null
"""
"""What has not ended; with its status where it may go on: a child whose parent has ended is left to what that end has to do."""


async def _help(tenant: Tenant, run: str, status: str | None) -> None:
    """Nothing more begins: who waits for an event gets one, who rests goes on."""
    if status == "paused":
        await tenant.server.post(f"/api/v1/runs/{run}/resume")
    elif status == "waiting":
        reply = await tenant.server.post(f"/api/v1/runs/{run}/events", {"name": "go"})
        if reply.status == 201:
            tenant.sent.setdefault(run, []).append(reply.json()["seq"])


async def lose(tenant: Tenant, names: list[str]) -> None:
    """Somebody sees workers die, rightly or wrongly."""
    for _ in range(12):
        for _ in range(tenant.random.randrange(150)):
            await asyncio.sleep(0)
        await tenant.server.post(f"/api/v1/workers/{tenant.random.choice(names)}/lost")


# ---- what must hold


async def check(tenants: list[Tenant], db: Any) -> None:
    rows = {row["id"].hex: row for row in await db.fetch("select * from runs")}
    inbox: dict[str, list[Any]] = {}
    for item in await db.fetch("select * from inbox order by run_id, seq"):
        inbox.setdefault(item["run_id"].hex, []).append(item)
    for tenant in tenants:
        for ref, run in tenant.roots.items():
            assert (rows[run]["namespace"], rows[run]["ref"]) == (tenant.name, ref), f"I45 S2 {ref}"
        for run, output in tenant.outputs.items():
            assert rows[run]["status"] in ENDED
            assert output is None or json.loads(rows[run]["output"]) == output == {"by": run}, f"S15 {run}"
        for run, told in tenant.told.items():
            assert told["status"] == rows[run]["status"], f"S14 S15 {run}"
            assert told["output"] == (json.loads(rows[run]["output"]) if rows[run]["output"] else None), f"S15 {run}"
        for run, numbers in tenant.sent.items():
            there = [item["seq"] for item in inbox.get(run, []) if item["kind"] == "event"]
            assert sorted(set(numbers)) == there, f"S24 {run}: acknowledged {numbers}, there {there}"
        for run in tenant.cancelled:
            asked = [item for item in inbox.get(run, []) if item["kind"] == "cancel"]
            assert len(asked) == (rows[run]["started_at"] is not None), (
                f"S27 S28 {run} was told {len(asked)} times of a cancel that was acknowledged"
            )
    for child in rows.values():
        if child["parent"] is not None:
            _check_child(child, rows[child["parent"].hex], inbox)
    await until(lambda: _nobody_is_left_to_tell(db))  # the sweep that was hurried may be at its last look


async def _nobody_is_left_to_tell(db: Any) -> bool:
    """S29."""
    return await db.fetchval("select not exists (select from child_cancellations) and not exists (select from runs where closes_children)")


def _check_child(child: Any, parent: Any, inbox: dict[str, list[Any]]) -> None:
    assert child["namespace"] == parent["namespace"], "I45"
    told = [item["status"] for item in inbox.get(parent["id"].hex, []) if item["kind"] == "child" and item["child"] == child["id"]]
    assert told in ([], [child["status"]]), f"S24 {told} of {child['id']}, which is {child['status']}"
    if child["finished_at"] < parent["finished_at"]:
        assert told, f"S24 the parent of {child['id']} was not told of its end"
    if child["on_parent_close"] == "abandon":
        assert not child["cancel_requested"], "S29"
    asks = Counter(item["kind"] for item in inbox.get(child["id"].hex, []))
    assert asks["cancel"] <= 1, "S29"


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_the_order_nothing_is_lost_mixed_up_or_left_behind(start_server, database_url, db, monkeypatch, seed):
    random = Random(seed)
    looks = [await asyncpg.connect(database_url) for _ in TOKENS]
    try:
        tenants = [Tenant(name, [], Random(random.random()), look=look) for name, look in zip(TOKENS, looks, strict=True)]
        await _live(tenants, [await start_server(redis_url=None) for _ in range(2)], random, monkeypatch)
        await check(tenants, db)
    finally:
        for look in looks:
            await look.close()


async def _live(tenants: list[Tenant], servers: list[Any], random: Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """All parties, until everything has ended."""
    for api in servers:
        monkeypatch.setattr(api.app._drain.__self__.engine.doorbell, "ring", lambda effects: _rung(tenants, effects))
    for tenant in tenants:
        tenant.servers += [api.as_(TOKENS[tenant.name]) for api in servers]
        await FakeWorker(tenant.server, "w1").register()
    gate = Gate(monkeypatch)
    parties = [party for tenant in tenants for party in (use(tenant), serve(tenant, "w1"), serve(tenant, "w2"), lose(tenant, ["w1", "w2"]))]
    try:
        await interleave(gate, parties, random)
    except TimeoutError:
        left = [dict(row) for row in await tenants[0].look.fetch(LEFT)]
        raise AssertionError(f"left behind: {left}; rung and not taken: {[tenant.rings for tenant in tenants]}") from None


LEFT = """
select id::text, namespace, status, epoch, worker, deliveries, inbox_seq, inbox_acked_seq, waits_events, waits_children, due_at, parent::text, cancel_requested,
    pause_requested, closes_children, now() as now
from runs where finished_at is null or closes_children
"""


def _rung(tenants: list[Tenant], effects: Any) -> None:
    for (namespace, *_), runs in effects.queued.items():
        next(tenant for tenant in tenants if tenant.name == namespace).rings += [run.hex for run in runs]

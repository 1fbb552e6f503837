"""A finish that names up to where it has read goes back with what came in, as a park does; and the server lets events wait meanwhile (S24, S25)."""

from __future__ import annotations

import asyncio

import pytest

from aiki_server.engine.commit import last_look
from support.runs import run_of

CALL = {"k": "call", "c": 0, "a": "event:order:1", "l": "wait"}


@pytest.fixture
def patient(monkeypatch):
    """Events wait for as long as it takes: what is waited for is certain."""
    monkeypatch.setattr(last_look, "PATIENCE_SECONDS", 60)


async def send(api, run, name="order"):
    reply = await api.post(f"/api/v1/runs/{run}/events", {"name": name})
    return reply.status


def finishing(worker, run, *, inbox_seen, status="completed"):
    op = worker.finishing(run, 1, status=status)
    return op | {"finish": op["finish"] | {"inbox_seen": inbox_seen}}


async def entries(api, run):
    found = (await api.get(f"/api/v1/runs/{run}/history")).json()["entries"]
    return [(entry["kind"], entry["data"].get("by")) for entry in found]


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_a_finish_that_met_news_writes_nothing_and_hands_them_over(api, worker, status):
    run = await worker.start_and_claim()
    assert await send(api, run) == 201
    (answer,) = await worker.commit(op := finishing(worker, run, inbox_seen=0, status=status))
    assert (answer["outcome"], [item["name"] for item in answer["inbox"]]) == ("inbox_pending", ["order"])
    assert await entries(api, run) == []
    (again,) = await worker.commit(op)
    assert again == answer
    worker.numbers[run] -= 1
    assert await worker.outcome(finishing(worker, run, inbox_seen=1, status=status)) == "ok"
    assert (await run_of(api, run))["status"] == status


async def test_a_finish_that_has_seen_everything_or_does_not_ask_ends_the_run(api, worker):
    seen, careless = await worker.start_and_claim(), await worker.start_and_claim()
    for run in (seen, careless):
        assert await send(api, run) == 201
    assert await worker.outcome(finishing(worker, seen, inbox_seen=1)) == "ok"
    assert await worker.outcome(finishing(worker, careless, inbox_seen=None)) == "ok"


async def test_a_run_that_was_rewound_is_queued_as_rewound(api, worker):
    run = await worker.start_and_claim()
    await send(api, run)
    await worker.commit(finishing(worker, run, inbox_seen=0))
    worker.numbers[run] -= 1
    assert await worker.outcome(worker.op(run, CALL, release=True, rewound=True)) == "parked"
    assert await entries(api, run) == [("call", None), ("queued", "rewound")]
    (claimed,) = await worker.claim(run)
    assert (claimed["inbox_seq"], [item["name"] for item in claimed["inbox"]]) == (1, ["order"])


async def test_a_pause_does_not_hide_that_a_run_was_rewound(api, worker):
    run = await worker.start_and_claim()
    await send(api, run)
    await worker.commit(finishing(worker, run, inbox_seen=0))
    worker.numbers[run] -= 1
    await api.post(f"/api/v1/runs/{run}/pause")
    assert await worker.outcome(worker.op(run, CALL, release=True, rewound=True)) == "parked"
    assert await entries(api, run) == [("call", None), ("queued", "rewound"), ("paused", None)]


async def test_events_wait_while_a_run_looks_for_the_last_time(api, worker, patient):
    run, other = await worker.start_and_claim(), await worker.start_and_claim()
    await send(api, run)
    await worker.commit(finishing(worker, run, inbox_seen=0))
    worker.numbers[run] -= 1
    waiting = asyncio.create_task(send(api, run))
    assert await send(api, other) == 201  # others do not wait
    assert await worker.outcome(worker.op(run, release=True, rewound=True)) == "parked"
    await worker.claim(run)
    assert (await run_of(api, run))["status"] == "running"
    assert not waiting.done()
    assert await worker.outcome(finishing(worker, run, inbox_seen=1)) == "ok"
    assert await waiting == 409


async def test_events_that_wait_are_taken_in_when_the_run_parks(api, worker, patient):
    run = await worker.start_and_claim()
    await send(api, run)
    await worker.commit(finishing(worker, run, inbox_seen=0))
    worker.numbers[run] -= 1
    waiting = asyncio.create_task(send(api, run))
    assert await worker.outcome(worker.parking(run, CALL, inbox_seen=1, events=["order"])) == "parked"
    assert await waiting == 201
    assert (await run_of(api, run))["status"] == "queued"


async def test_events_do_not_wait_for_a_worker_that_does_not_come_back(api, worker, monkeypatch):
    monkeypatch.setattr(last_look, "PATIENCE_SECONDS", 0.05)
    run = await worker.start_and_claim()
    await send(api, run)
    await worker.commit(finishing(worker, run, inbox_seen=0))
    assert await send(api, run) == 201
    assert (await run_of(api, run))["status"] == "running"


async def test_what_is_rewound_is_released(api, worker):
    run = await worker.start_and_claim()
    (answer,) = await worker.commit(worker.op(run, rewound=True))
    assert answer["outcome"] == "refused"

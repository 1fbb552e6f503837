"""What a request may hold is bounded before anything is built of it, and what is dense with values is read beside the server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from aiki.protocol import MAX_CHILDREN, MAX_PAYLOAD_BYTES
from aiki_server.api.fairness import heavy
from aiki_server.api.fairness.heavy import is_heavy


@pytest.fixture
def settings(settings):
    """A lease that lasts while a slow machine reads much."""
    return replace(settings, lease_seconds=60.0)


RUNS = "/api/v1/runs"
DENSE = "[" + ",".join(["{}"] * 200_000) + "]"
CALL = {"k": "call", "c": 0, "a": "task:charge:1"}
RUN = "0" * 32


def op(**members):
    return json.dumps({"worker": "w1", "ops": [{"run": RUN, "epoch": 1, "number": 1, **members}]}, separators=(",", ":")).encode()


def unknown(count):
    return b",".join(b'"a%06d":0' % index for index in range(count))


ENDLESS = {
    "consumed": ("worker/commit", op(consumed=[1.0] * 300_000)),
    "texts among numbers": ("worker/commit", op(consumed=[""] * 300_000)),
    "cancel_children": ("worker/commit", op(cancel_children=["x"] * 250_000)),
    "children": ("worker/commit", op(children=[0] * 500_000)),
    "waits": ("worker/commit", op(park={"inbox_seen": 1, "due_at": 1, "events": [], "children": False, "waits": [{}] * 300_000})),
    "events": ("worker/commit", op(park={"inbox_seen": 1, "due_at": 1, "events": ["a"] * 200_000, "children": False, "waits": []})),
    "ops": ("worker/commit", b'{"worker":"w1","ops":[' + b",".join([b"{}"] * 300_000) + b"]}"),
    "members of a commit": ("worker/commit", b'{"worker":"w1",' + unknown(70_000) + b"}"),
    "held": ("worker/claim", json.dumps({"worker": "w1", "held": ["x"] * 300_000}).encode()),
    "members of a claim": ("worker/claim", b'{"worker":"w1",' + unknown(180_000) + b"}"),
    "workflows": ("worker/register", json.dumps({"worker": "w1", "pool": "p", "concurrency": 1, "workflows": [0] * 600_000}).encode()),
    "runs of inboxes": ("worker/inbox", json.dumps({"worker": "w1", "runs": [{}] * 400_000}).encode()),
    "members of a start": ("runs", b'{"workflow":"flow",' + unknown(50_000) + b"}"),
    "members of starts": ("runs:batch", b'{"runs":[' + b",".join([b'{"workflow":"f",' + unknown(300) + b"}"] * 990) + b"]}"),
    "starts": ("runs:batch", b'{"runs":[' + b",".join([b"{}"] * 1_300_000) + b"]}"),
    "members of a heartbeat": ("worker/heartbeat", b'{"worker":"w1",' + unknown(5_000) + b"}"),
}


@pytest.mark.parametrize("name", ENDLESS)
async def test_what_has_no_end_is_refused_with_few_words(api, worker, name):
    path, body = ENDLESS[name]
    reply = await api.post(f"/api/v1/{path}", body)
    assert reply.status in (400, 413, 422)
    assert len(reply.body) < 10_000
    assert (await api.get(RUNS)).json() == {"runs": [], "next": None}


async def test_a_thousand_children_a_commit(api, worker):
    run, other = await worker.start_and_claim(), await worker.start_and_claim()

    def children(count, begin):
        return [{"id": f"{begin + index:032x}", "workflow": "flow", "input": "1"} for index in range(count)]

    reply = await worker.send(worker.op(run, CALL, children=children(MAX_CHILDREN, 1)), worker.op(other, CALL, children=children(1, 9_000)))
    assert (reply.status, "children" in reply.json()["detail"]) == (422, True)
    worker.numbers[run] = 0
    assert await worker.outcome(worker.op(run, CALL, children=children(MAX_CHILDREN, 1))) == "ok"


def test_only_what_has_very_many_values_is_heavy():
    assert is_heavy(DENSE)
    assert is_heavy(DENSE.encode())
    assert not is_heavy('"' + "x" * 500_000 + '"')
    assert not is_heavy("[" + ",".join(["{}"] * 1_000) + "]")


async def test_a_dense_payload_is_taken_and_comes_back_as_it_was(api, worker):
    assert len(DENSE) < MAX_PAYLOAD_BYTES
    body = f'{{"workflow":"flow","ref":"dense","start_at":"2020-01-01T00:00:00Z","input":{DENSE}}}'.encode()
    first, again = await api.post(RUNS, body), await api.post(RUNS, body)
    run = first.json()["id"]
    assert (first.status, again.status, again.json()["id"]) == (201, 200, run)
    assert (await api.post(RUNS, body.replace(b"{}", b"[]", 1))).status == 409
    (claimed,) = await worker.claim(run)
    assert claimed["input"] == DENSE
    assert (await api.post(f"{RUNS}/{run}/events", f'{{"name":"go","payload":{DENSE}}}'.encode())).status == 201
    entry = f'{{"k":"done","c":0,"at":1,"v":{DENSE}}}'
    assert await worker.outcome(worker.op(run) | {"entries": f"[{entry}]", "count": 1}) == "ok"
    history = (await api.get(f"{RUNS}/{run}/history")).body.decode()
    assert f'"data":{{"c":0,"v":{DENSE}}}' in history
    assert f'"payload":{DENSE}' in history
    await worker.commit(worker.finishing(run) | {"finish": {"status": "completed", "output": DENSE}})
    assert f'"output":{DENSE},' in (await api.get(f"{RUNS}/{run}/result")).body.decode()


async def test_a_dense_batch_is_made_of_its_starts(api, worker, db):
    half = "[" + ",".join(["{}"] * 50_000) + "]"
    starts = ",".join(
        [f'{{"workflow":"flow","input":{half}}}', '{"workflow":"flow","input":"\\u0000ä"}', f'{{"workflow":"flow","input":{half}}}']
    )
    reply = await api.post("/api/v1/runs:batch", f'{{"runs":[{starts}]}}'.encode())
    assert reply.status == 201
    inputs = [await db.fetchval("select input from runs where id = $1", run["id"]) for run in reply.json()["runs"]]
    assert inputs == [half, '"\\u0000ä"', half]


@pytest.mark.parametrize(
    "wrong",
    [DENSE[:-1], DENSE.replace("{}", '{"a":1,"a":2}', 1), DENSE.replace("{}", "NaN", 1), DENSE.replace("{}", "[" * 99 + "]" * 99, 1)],
)
async def test_a_dense_payload_is_read_as_strictly(api, worker, wrong):
    run = await worker.start_and_claim()
    assert (await api.post(RUNS, f'{{"workflow":"flow","input":{wrong}}}'.encode())).status == 400
    assert (await api.post(f"{RUNS}/{run}/events", f'{{"name":"go","payload":{wrong}}}'.encode())).status == 400
    entry = f'{{"k":"done","c":0,"at":1,"v":{wrong}}}'
    assert await worker.outcome(worker.op(run) | {"entries": f"[{entry}]", "count": 1}) == "refused"


async def test_a_reader_that_does_not_come_back_is_replaced(api, worker, monkeypatch):
    body = f'{{"workflow":"flow","input":{DENSE}}}'.encode()
    with monkeypatch.context() as impatient:
        impatient.setattr(heavy, "PATIENCE_SECONDS", 0.0)
        assert (await api.post(RUNS, body)).status == 413
    assert (await api.post(RUNS, body)).status == 201

"""What a worker writes is read as strictly as what a client writes: nothing is stored that cannot be read back, and nothing fails the others."""

from __future__ import annotations

import json

import pytest

from aiki_server.api.worker.entries import KINDS, entry_refusal

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}
ERROR = {"type": "E", "message": "m"}
HUGE = 10**30
SURROGATE = "\ud800"

BAD_ENTRIES = [
    '{"k":[]}', '{"k":{}}', '{"k":null}', '{"k":1}', "{}", "[]", "null", "1", '"call"', '{"k":"queued","at":1,"by":"x"}', '{"k":"\\ud800"}', '{"k":"call\\u0000"}',
    '{"k":"call","c":0}', '{"k":"call","a":"x"}', '{"k":"call","c":-1,"a":"x"}', f'{{"k":"call","c":{HUGE},"a":"x"}}', '{"k":"call","c":1.0,"a":"x"}',
    '{"k":"call","c":true,"a":"x"}', '{"k":"call","c":0,"a":[]}', '{"k":"call","c":0,"a":"x","l":{}}', '{"k":"call","c":0,"a":"x","due":-1}',
    '{"k":"call","c":0,"a":"x","run":"nobody"}', f'{{"k":"call","c":0,"a":"x","l":"{"x" * 2000}"}}', f'{{"k":"began","at":{HUGE}}}', '{"k":"began","at":"now"}',
    '{"k":"done","c":0}', '{"k":"done","c":0,"v":1,"\\ud800":1}', '{"k":"done","c":0,"v":1,"x\\",\\"forged\\":1,\\"y":1}', '{"k":"done","c":0,"v":1,"timeout":1}',
    '{"k":"done","c":0,"v":1,"i":-1}', '{"k":"failed","c":0,"e":"broken"}', '{"k":"failed","c":0,"e":{"type":"E"}}', '{"k":"failed","c":0,"e":{"type":"E","message":"m","more":1}}',
    '{"k":"failed","c":0,"e":{"type":"\\ud800","message":"m"}}', '{"k":"attempt","c":0,"n":null,"e":{"type":"E","message":"m"}}', '{"k":"cancel","at":1}', '{"k":"call","c":0,"a":"x","k":"done"}',
]  # fmt: skip


@pytest.mark.parametrize("entry", BAD_ENTRIES)
async def test_an_entry_that_could_not_be_read_back_is_refused(api, worker, entry):
    run = await worker.start_and_claim()
    good = await worker.start_and_claim()
    answers = await worker.commit(worker.op(run) | {"entries": f"[{entry}]", "count": 1}, worker.op(good, CALL))
    assert [answer["outcome"] for answer in answers] == ["refused", "ok"]
    worker.numbers[run] = 0
    assert await worker.outcome(worker.op(run, CALL)) == "ok"
    reply = await api.get(f"/api/v1/runs/{run}/history")
    assert (reply.status, [entry["kind"] for entry in reply.json()["entries"]]) == (200, ["call"])


GOOD_ENTRIES = [
    {"k": "began", "at": 1}, CALL, CALL | {"l": "charge(1)", "due": 5, "at": 1}, CALL | {"run": "0" * 32}, {"k": "child_cancel_requested", "c": 0},
    {"k": "done", "c": 0, "at": 1, "v": {SURROGATE: HUGE}, "i": 3}, {"k": "done", "c": 0, "at": 1, "v": None, "timeout": True},
    {"k": "failed", "c": 0, "at": 1, "e": ERROR, "i": 2}, {"k": "attempt", "c": 0, "n": 1, "at": 1, "e": ERROR | {"stack": None, "retryable": True}, "due": 2},
    {"k": "cancel", "at": 1, "i": 1}, {"k": "completed", "at": 1}, {"k": "failed_run", "at": 1, "e": ERROR}, {"k": "cancelled", "at": 1, "e": ERROR},
]  # fmt: skip


def test_every_kind_of_entry_that_workers_write_is_accepted():
    assert [entry_refusal(entry) for entry in GOOD_ENTRIES] == [None] * len(GOOD_ENTRIES)
    assert {entry["k"] for entry in GOOD_ENTRIES} == set(KINDS)


BAD_OPS: list[dict[str, object]] = [
    {"epoch": HUGE}, {"epoch": -1}, {"number": HUGE}, {"count": HUGE}, {"steps": HUGE}, {"steps": -1}, {"consumed": [HUGE]}, {"consumed": [-1]},
    {"steps": HUGE, "entries": '[{"k":"failed_run","at":1}]', "count": 1, "finish": {"status": "failed", "error": ERROR}},
    {"entries": '[{"k":"completed","at":1}]', "count": 1, "finish": {"status": "completed", "output": "1", "inbox_seen": HUGE}},
    {"entries": '[{"k":"completed","at":1}]', "count": 1, "finish": {"status": "completed", "output": "1", "inbox_seen": -HUGE}},
    {"entries": "[ ]", "count": 0, "finish": {"status": "completed", "output": "1"}},
    {"entries": "[]", "count": 0, "finish": {"status": "completed", "output": "1"}},
]  # fmt: skip
BAD_PARKS: list[dict[str, object]] = [{"inbox_seen": HUGE}, {"inbox_seen": -HUGE}, {"due_at": -1}]


async def test_numbers_that_do_not_fit_are_refused_one_by_one(api, worker):
    run = await worker.start_and_claim()
    whole: dict[str, object] = {"inbox_seen": 0, "due_at": 5, "events": [], "children": False, "waits": []}
    parks: list[dict[str, object]] = [{"park": whole | park} for park in BAD_PARKS]
    for op in (*BAD_OPS, *parks):
        assert await worker.outcome({"run": run, "epoch": 1, "number": 1} | op) in ("refused", "stale"), op
    assert await worker.outcome(worker.op(run, CALL)) == "ok"


@pytest.mark.parametrize("name", ["\x00", "a\x00b", "a,b", "", "a b", "x" * 256])
async def test_a_park_awaits_events_that_have_names(api, worker, name):
    run = await worker.start_and_claim()
    reply = await worker.send(worker.parking(run, events=[name]))
    assert reply.status == 422
    assert (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "running"


async def test_odd_waits_are_shown_as_far_as_they_can_be(api, worker):
    run = await worker.start_and_claim()
    waits = [{"kind": [], "name": "\x00", "child": {}, "attempt": HUGE, "due_at": HUGE}, {"kind": "event", "name": "go", "more": [[]]}, {}]
    assert await worker.outcome(worker.parking(run, events=["go"], waits=waits)) == "parked"
    shown = (await api.get(f"/api/v1/runs/{run}")).json()["waits"]
    assert [wait["kind"] for wait in shown] == ["sleep", "event", "sleep"]


async def test_what_is_stored_already_is_shown_whatever_its_members_are_called(api, worker, db):
    run = await worker.start_and_claim()
    await worker.commit(worker.op(run, {"k": "child_cancel_requested", "c": 0}))
    odd = '[{"k":"done","c":0,"v":1,"\\ud800":1,"x\\",\\"forged\\":1,\\"y":2}]'
    await db.execute("update history set entries = $1 where run_id = $2", odd, run)
    reply = await api.get(f"/api/v1/runs/{run}/history")
    assert reply.status == 200
    assert "forged" not in json.loads(reply.body)["entries"][0]["data"]

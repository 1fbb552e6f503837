"""Every limit of the API, at the limit and beyond (S4: what is refused leaves nothing)."""

from __future__ import annotations

import pytest

from aiki.protocol import MAX_BATCH, MAX_OPEN_EVENTS, MAX_PAYLOAD_BYTES, MAX_REQUEST_BYTES, MAX_STEPS

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}


def start(payload: str, **members: str) -> bytes:
    more = "".join(f',"{name}":{text}' for name, text in members.items())
    return f'{{"workflow":"flow","input":{payload}{more}}}'.encode()


async def accepted(api, db, body, status=201):
    reply = await api.post("/api/v1/runs", body)
    assert reply.status == status, reply.body
    assert await db.fetchval("select count(*) from runs") == (1 if status == 201 else 0)
    return reply


@pytest.mark.parametrize(("excess", "status"), [(0, 201), (1, 413)])
async def test_a_payload_has_at_most_2_mib(api, db, excess, status):
    await accepted(api, db, start('"' + "x" * (MAX_PAYLOAD_BYTES - 2 + excess) + '"'), status)


@pytest.mark.parametrize(("excess", "status"), [(0, 201), (1, 413)])
async def test_payload_counts_bytes_not_characters(api, db, excess, status):
    await accepted(api, db, start('"' + "é" * (MAX_PAYLOAD_BYTES // 2 - 1) + "x" * excess + '"'), status)


@pytest.mark.parametrize(("excess", "status"), [(0, 201), (1, 413)])
@pytest.mark.parametrize("chunked", [True, False])
async def test_a_request_has_at_most_4_mib(api, db, excess, status, chunked):
    body = start("1") + b" " * (MAX_REQUEST_BYTES - len(start("1")) + excess)
    pieces = [body[at : at + 100_000] for at in range(0, len(body), 100_000)] if chunked else None
    reply = await api.request("POST", "/api/v1/runs", value=None if chunked else body, pieces=pieces)
    assert reply.status == status
    assert await db.fetchval("select count(*) from runs") == (1 if status == 201 else 0)


async def test_a_request_that_says_it_is_too_long_is_not_read(api):
    reply = await api.request("POST", "/api/v1/runs", value=b"{}", headers={"content-length": str(MAX_REQUEST_BYTES + 1)})
    assert reply.status == 413


@pytest.mark.parametrize(("levels", "status"), [(64, 201), (65, 400), (2_000, 400), (100_000, 400)])
async def test_a_payload_nests_at_most_64_levels(api, db, levels, status):
    await accepted(api, db, start("[" * levels + "]" * levels), status)


@pytest.mark.parametrize(("digits", "status"), [(1000, 201), (1001, 400), (6000, 400)])
async def test_an_integer_has_at_most_1000_digits(api, db, digits, status):
    await accepted(api, db, start("-" + "9" * digits), status)


async def test_a_name_has_1_to_255_characters_of_few_kinds(api):
    good, bad = ["a" * 255, "A0._:-", "0"], ["a" * 256, "", ".a", "a b", "a\n", "ä", "a/b", "\x00"]
    assert {name: (await api.post("/api/v1/runs", {"workflow": name})).status for name in good} == dict.fromkeys(good, 201)
    assert {name: (await api.post("/api/v1/runs", {"workflow": name})).status for name in bad} == dict.fromkeys(bad, 422)


@pytest.mark.parametrize(("count", "status"), [(MAX_BATCH, 201), (MAX_BATCH + 1, 422), (0, 422)])
async def test_a_batch_has_at_most_1000_starts(api, db, count, status):
    reply = await api.post("/api/v1/runs:batch", {"runs": [{"workflow": "flow"}] * count})
    assert reply.status == status
    assert await db.fetchval("select count(*) from runs") == (count if status == 201 else 0)


async def test_a_run_keeps_at_most_10_000_undelivered_events(api, worker, db):
    run = await worker.start_and_claim()
    await db.execute(
        "insert into inbox (run_id, seq, kind, name, payload) select $1, n, 'event', 'go', '1' from generate_series(1, $2::int) n",
        run,
        MAX_OPEN_EVENTS - 1,
    )
    await db.execute("update runs set inbox_seq = $1", MAX_OPEN_EVENTS - 1)
    event = {"name": "go", "id": "last"}
    assert (await api.post(f"/api/v1/runs/{run}/events", event)).status == 201
    reply = await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})
    assert (reply.status, reply.headers["retry-after"]) == (429, "10")
    assert (await api.post(f"/api/v1/runs/{run}/events", event)).status == 200
    await worker.commit(worker.op(run, CALL, consumed=[1]))
    assert (await api.post(f"/api/v1/runs/{run}/events", {"name": "go"})).status == 201


async def test_a_run_has_at_most_50_000_steps(api, worker):
    run = await worker.start_and_claim()
    (at_the_limit,) = await worker.commit(worker.op(run, CALL, steps=MAX_STEPS))
    (beyond,) = await worker.commit(worker.op(run, CALL, steps=1))
    assert (at_the_limit["outcome"], beyond["outcome"]) == ("ok", "refused")
    assert await worker.outcome(worker.finishing(run, status="failed") | {"number": 2}) == "ok"


async def test_a_reason_has_at_most_1024_characters(api, worker):
    run = await worker.start_and_claim()
    assert (await api.post(f"/api/v1/runs/{run}/cancel", {"reason": "x" * 1025})).status == 422
    assert (await api.post(f"/api/v1/runs/{run}/cancel", {"reason": "x" * 1024})).status == 200

"""Whatever is sent: a problem document, no trace, and nothing of it repeated."""

from __future__ import annotations

import json

import pytest

RUNS = "/api/v1/runs"
BODIES = [
    (b"", 400),
    (b"null", 400),
    (b"[]", 400),
    (b'"x"', 400),
    (b"{", 400),
    (b"{}", 422),
    (b'{"workflow":1}', 422),
    (b'{"workflow":null}', 422),
    (b'{"workflow":["flow"]}', 422),
    (b'{"workflow":"flow","secret":1}', 422),
    (b'{"workflow":"flow","\\ud800":1}', 422),
    (b'{"workflow":"flow","a b":1}', 422),
    (b'{"workflow":"flow","workflow":"flow"}', 400),
    (b'{"workflow":"flow","input":{"a":1,"a":2}}', 400),
    (b'{"workflow":"flow","input":NaN}', 400),
    (b'{"workflow":"flow","input":Infinity}', 400),
    (b'{"workflow":"flow","input":1e999}', 400),
    (b'{"workflow":"flow","input":"\x00"}', 400),
    (b'{"workflow":"flow","input":"\xff"}', 400),
    (b'\xef\xbb\xbf{"workflow":"flow"}', 400),
    ('{"workflow":"flow"}'.encode("utf-16"), 400),
    (b'{"workflow":"\\ud800"}', 400),
    (b'{"workflow":"flow\\u0000"}', 422),
    (b'{"workflow":"flow","ref":"\\u0000"}', 422),
    (b'{"workflow":"flow","on_conflict":"maybe"}', 422),
    (b'{"workflow":"flow","start_at":5}', 422),
    (b'{"workflow":"flow","start_at":"5"}', 422),
    (b'{"workflow":"flow","start_at":"tomorrow"}', 422),
    (b'{"workflow":"flow","start_at":"2030-01-01T00:00:00"}', 422),
    (b'{"workflow":"flow","start_at":"2030-01-01"}', 422),
    (b'{"workflow":"flow","start_at":"2030-13-01T00:00:00Z"}', 422),
    (b'{"workflow":"flow","start_at":"9999-12-31T23:59:59-01:00"}', 422),
    (b'{"workflow":"flow","start_at":"0001-01-01T00:00:00+01:00"}', 422),
    (b'{"workflow":"flow"} trailing', 400),
]

ODD_PAYLOADS = ['"\\u0000"', '"\\ud800"', '{"\\ud800":"\\udfff"}', "-0", "1.0", "1E40", '"\\/"', "[ 1 , 2 ]", '"\u2028"']


@pytest.mark.parametrize(("body", "status"), BODIES, ids=[repr(body)[:60] for body, _ in BODIES])
async def test_a_bad_body_is_refused_with_a_problem_and_starts_nothing(api, db, body, status):
    reply = await api.post(RUNS, body)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    problem = json.loads(reply.body)
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"].startswith("urn:aiki:")
    assert await db.fetchval("select count(*) from runs") == 0


async def test_a_problem_does_not_repeat_what_was_sent(api):
    reply = await api.post(RUNS, {"workflow": "top secret", "ref": "hush hush"})
    assert b"secret" not in reply.body
    assert b"hush" not in reply.body


@pytest.mark.parametrize("payload", ODD_PAYLOADS, ids=[ascii(payload) for payload in ODD_PAYLOADS])
async def test_an_odd_payload_comes_back_as_it_went_in(api, worker, payload):
    started = (await api.post(RUNS, f'{{"workflow":"flow","input":{payload}}}'.encode())).json()["id"]
    assert f'"input":{payload},' in (await api.get(f"{RUNS}/{started}")).body.decode()
    (claimed,) = await worker.claim(started)
    assert claimed["input"] == payload
    await api.post(f"{RUNS}/{started}/events", f'{{"name":"go","payload":{payload}}}'.encode())
    assert f'"payload":{payload}' in (await api.get(f"{RUNS}/{started}/history")).body.decode()
    await worker.commit(worker.finishing(started) | {"finish": {"status": "completed", "output": payload}})
    assert f'"output":{payload},' in (await api.get(f"{RUNS}/{started}/result")).body.decode()


async def test_only_json_is_taken_for_json(api):
    wrong = [None, "text/plain", "application/xml", "application/jsonx", "application/json; charset=latin-1", "multipart/form-data"]
    for method, path in (("POST", RUNS), ("POST", "/api/v1/worker/claim"), ("PUT", "/api/v1/pools/main")):
        statuses = {kind: (await api.request(method, path, value={}, headers={"content-type": kind})).status for kind in wrong}
        assert statuses == dict.fromkeys(wrong, 415)
    right = ["application/json", "Application/JSON", "application/json; charset=utf-8", 'application/json;charset="UTF-8"']
    statuses = {
        kind: (await api.request("POST", RUNS, value={"workflow": "flow"}, headers={"content-type": kind})).status for kind in right
    }
    assert statuses == dict.fromkeys(right, 201)


@pytest.mark.parametrize(
    "sent", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Bearer tok", "Bearer other-token x", "Basic token", "token"]
)
async def test_a_wrong_token_is_refused(api, sent):
    reply = await api.as_(None).request("GET", RUNS, headers={"authorization": sent})
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert reply.headers["content-type"] == "application/problem+json"


async def test_the_word_bearer_may_be_written_as_one_likes(api):
    assert (await api.as_(None).request("GET", RUNS, headers={"authorization": "bearer token"})).status == 200


UNKNOWN = [
    ("GET", "/nowhere", 404), ("GET", "/api/v1/nowhere", 404), ("DELETE", RUNS, 405), ("GET", f"{RUNS}/x", 404), ("GET", f"{RUNS}/{'0' * 32}", 404),
    ("GET", f"{RUNS}/{'0' * 33}", 404), ("GET", f"{RUNS}/by-ref/none", 404), ("GET", f"{RUNS}/{'0' * 32}/history", 404), ("PUT", f"{RUNS}/x/cancel", 405),
    ("GET", "/api/v1/pools/none/load", 404), ("DELETE", "/api/v1/pools/none/builds/x", 404), ("POST", "/api/v1/pools/none/builds/x/promote", 404),
    ("POST", "/api/v1/workers/none/lost", 404), ("POST", "/api/v1/pods/none/lost", 404),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "status"), UNKNOWN, ids=[f"{method} {path[:40]}" for method, path, _ in UNKNOWN])
async def test_what_is_unknown_is_not_found(api, method, path, status):
    reply = await api.request(method, path)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    assert status != 405 or reply.headers["allow"]


BAD_QUERIES: list[dict[str, object]] = [
    {"limit": 0}, {"limit": 1001}, {"limit": "x"}, {"status": "asleep"}, {"cursor": "x"}, {"parent": "x"}, {"workflow": "a b"}, {"limit": "9" * 400},
]  # fmt: skip


@pytest.mark.parametrize("query", BAD_QUERIES, ids=[str(query)[:40] for query in BAD_QUERIES])
async def test_a_bad_query_is_refused(api, query):
    reply = await api.get(RUNS, **query)
    assert (reply.status, reply.headers["content-type"]) == (422, "application/problem+json")


BAD_COMMITS: list[dict[str, object]] = [
    {}, {"worker": "w1"}, {"worker": "w1", "ops": []}, {"worker": "w1", "ops": [{"run": "x", "epoch": 1, "number": 1}]},
    {"worker": "w1", "ops": [{"run": "0" * 32, "epoch": "1", "number": 1}]}, {"worker": "w1", "ops": [{"run": "0" * 32, "epoch": 1, "number": 1, "more": 1}]},
]  # fmt: skip


@pytest.mark.parametrize("body", BAD_COMMITS, ids=[str(body)[:60] for body in BAD_COMMITS])
async def test_a_bad_commit_is_refused(api, body):
    assert (await api.post("/api/v1/worker/commit", body)).status == 422


async def test_numbers_beyond_the_database_harm_nobody(api, worker):
    run = await worker.start_and_claim()
    huge = 10**30
    for op in ({"epoch": huge}, {"number": huge}, {"steps": huge}, {"consumed": [huge]}, {"count": huge}):
        assert await worker.outcome(worker.op(run) | {"number": 1} | op) in ("stale", "refused")
    body = {"worker": "w1", "runs": [{"run": run, "epoch": huge, "inbox_seen": huge}]}
    assert (await api.post("/api/v1/worker/inbox", body)).json()["runs"][0]["stale"]
    assert (await worker.heartbeat(active=huge))["known"]
    assert await worker.outcome(worker.parking(run, inbox_seen=huge, events=["go"]) | {"number": 1}) == "refused"

"""A payload that no build of the run's version takes is refused where it is sent, before anything is written; what is not known is accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aiki.protocol import MAX_EVENT_SCHEMA, MAX_EVENT_SCHEMAS, MAX_EVENT_SCHEMAS_TOGETHER
from aiki_server.api.fairness.heavy import is_heavy
from aiki_server.engine.workers import event_schemas as engine_schemas
from aiki_server.store.queries import event_schemas
from support.fake_worker import FakeWorker

INTEGER, NULL, OBJECT = {"type": "integer"}, {"type": "null"}, {"type": "object", "required": ["by"]}


async def register(
    api: Any, name: str, *, number: int = 0, pool: str = "main", build: str | None = None, version: str = "1.0", **events: Any
) -> Any:
    body = {
        "worker": name,
        "pool": pool,
        "build": build,
        "concurrency": 10,
        "number": number,
        "workflows": [{"workflow": "flow", "version": version}],
        "events": [
            {
                "workflow": "flow",
                "version": version,
                "event": event,
                "payload_schema": schema if isinstance(schema, str) else json.dumps(schema),
            }
            for event, schema in events.items()
        ],
    }
    return await api.post("/api/v1/worker/register", body)


async def start(api: Any, **more: Any) -> str:
    return str((await api.post("/api/v1/runs", {"workflow": "flow", **more})).json()["id"])


async def send(api: Any, run: str, name: str, *payload: Any, **more: Any) -> Any:
    body = {"name": name, **more} | ({"payload": payload[0]} if payload else {})
    return await api.post(f"/api/v1/runs/{run}/events", body)


async def test_a_payload_that_does_not_fit_is_refused_and_nothing_is_written(api, db):
    await register(api, "w1", go=INTEGER)
    run = await start(api)
    before = await db.fetch("select xmin, * from runs")
    reply = await send(api, run, "go", "SECRET", id="e1")
    assert reply.status == 422
    problem = reply.json()
    assert problem["type"] == "urn:aiki:payload-misfit"
    assert problem["detail"] == (
        "Event go of flow 1.0 does not take this payload: payload: an integer is expected here, and this is a string. Send it with one that fits."
    )
    assert problem["errors"][0]["loc"] == ["payload"]
    assert b"SECRET" not in reply.body
    assert await db.fetch("select xmin, * from runs") == before
    assert await db.fetchval("select count(*) from inbox") == 0
    assert (await send(api, run, "go", 7, id="e1")).status == 201  # the id was not used


@pytest.mark.parametrize(
    ("payload", "status"), [((), 201), ((None,), 201), (({},), 422), ((0,), 422), ((False,), 422), (("",), 422), (([],), 422)]
)
async def test_an_event_without_a_payload_takes_none(api, payload, status):
    await register(api, "w1", poke=NULL)
    assert (await send(api, await start(api), "poke", *payload)).status == status


async def test_what_nobody_has_said_is_accepted(api):
    await register(api, "w1", go=INTEGER)
    await FakeWorker(api, "w2", pool="other").register(("else", "1.0"))
    run = await start(api)
    assert (await send(api, run, "another", "many")).status == 201
    other = (await api.post("/api/v1/runs", {"workflow": "else"})).json()["id"]
    assert (await send(api, other, "go", "many")).status == 201
    nobody = (await api.post("/api/v1/runs", {"workflow": "nobody"})).json()["id"]
    assert (await send(api, nobody, "go", "many")).status == 201


async def test_what_either_of_two_builds_takes_is_accepted(api):
    await register(api, "w1", build="a", go=INTEGER)
    await register(api, "w2", build="b", go=OBJECT)
    run = await start(api)
    assert (await send(api, run, "go", 1)).status == 201
    assert (await send(api, run, "go", {"by": "link"})).status == 201
    assert (await send(api, run, "go", {})).status == 422
    assert (await send(api, run, "go", "many")).status == 422


async def test_a_build_that_says_nothing_may_take_anything(api):
    await register(api, "w1", build="a", go=INTEGER)
    await FakeWorker(api, "w2", build="b").register()
    assert (await send(api, await start(api), "go", "many")).status == 201


async def test_versions_are_apart(api):
    await register(api, "w1", go=INTEGER)
    await register(api, "w2", version="2.0", go=NULL)
    assert (await send(api, await start(api, version="1.0"), "go", 1)).status == 201
    assert (await send(api, await start(api, version="2.0"), "go", 1)).status == 422


async def test_without_builds_the_only_worker_replaces_what_was_said_and_another_adds_to_it(api):
    await register(api, "w1", number=1, go=INTEGER)
    await register(api, "w1", number=2, go=NULL)
    run = await start(api)
    assert (await send(api, run, "go", 1)).status == 422
    await register(api, "w2", go=INTEGER)
    assert (await send(api, run, "go", 1)).status == 201
    assert (await send(api, run, "go")).status == 201
    assert (await send(api, run, "go", {})).status == 422
    await api.post("/api/v1/worker/deregister", {"worker": "w1"})
    await register(api, "w2", number=2)
    assert (await send(api, run, "go", {})).status == 201  # its code names the event no more


async def test_a_repetition_is_answered_as_before_though_the_code_takes_it_no_more(api):
    run = await start(api)
    first = await send(api, run, "go", "many", id="e1")
    assert first.status == 201
    await register(api, "w1", go=INTEGER)
    again = await send(api, run, "go", "many", id="e1")
    assert (again.status, again.json()) == (200, {"seq": 1, "created": False})
    assert (await send(api, run, "go", "many", id="e2")).status == 422


async def test_the_state_of_the_run_is_told_before_its_schema(api):
    await register(api, "w1", go=INTEGER)
    run = await start(api)
    await api.post(f"/api/v1/runs/{run}/cancel")
    assert (await send(api, run, "go", "many")).status == 409
    assert (await send(api, "00" * 16, "go", "many")).status == 404


async def test_another_namespace_says_nothing_of_mine(api):
    await register(api.as_("other-token"), "w1", go=NULL)
    await FakeWorker(api, "w1").register()
    run = await start(api)
    assert (await send(api, run, "go", 1)).status == 201
    await register(api.as_("other-token"), "w2", go=NULL)
    assert (await send(api.as_("other-token"), run, "go", 1)).status == 404


async def test_a_run_in_a_workers_hands_is_checked_as_well(api):
    await register(api, "w1", go=INTEGER)
    worker = FakeWorker(api, "w1")
    run = await worker.start_and_claim()
    assert (await send(api, run, "go", "many")).status == 422
    assert (await send(api, run, "go", 1)).status == 201
    assert [item["payload"] for item in (await worker.inbox(run, inbox_seen=0))["inbox"]] == ["1"]


async def test_a_payload_of_very_many_values_is_checked_to_its_end(api):
    await register(api, "w1", go={"items": INTEGER})
    run = await start(api)
    many = [1] * 200_000
    assert is_heavy(json.dumps(many))
    assert (await send(api, run, "go", [*many, "SECRET"])).status == 422
    assert (await send(api, run, "go", many)).status == 201
    assert (await send(api, run, "other", [*many, "SECRET"])).status == 201


@pytest.mark.parametrize("schema", ["{", "7", '{"type":"text"}', "[" * 4_000, "", "NaN", '{"enum":["\\u0000"]}'])
async def test_a_worker_registers_though_what_it_says_of_an_event_is_no_schema(api, schema, caplog):
    assert (await register(api, "w1", go=schema, poke=NULL)).status == 200
    assert ("schemas of events cannot be heeded" in caplog.text) is ("u0000" not in schema)
    run = await start(api)
    assert (await send(api, run, "go", "many")).status == (422 if "u0000" in schema else 201)
    assert (await send(api, run, "poke", "many")).status == 422


async def test_a_registration_has_bounds(api, caplog):
    large = json.dumps({"enum": ["x" * (MAX_EVENT_SCHEMA - 100)]})
    assert (await register(api, "w1", go=large)).status == 200
    assert (await register(api, "w1", go=" " * (MAX_EVENT_SCHEMA + 1))).status == 422
    many: dict[str, Any] = {f"e{n}": {} for n in range(MAX_EVENT_SCHEMAS + 1)}
    assert (await register(api, "w1", **many)).status == 422
    fitting = MAX_EVENT_SCHEMAS_TOGETHER // len(large)
    much: dict[str, Any] = dict.fromkeys((f"e{n:03}" for n in range(fitting + 2)), large)
    assert (await register(api, "w1", **much)).status == 200
    run = await start(api)
    assert (await send(api, run, f"e{fitting - 1:03}", "many")).status == 422
    assert (await send(api, run, f"e{fitting:03}", "many")).status == 201


async def test_what_is_said_of_a_version_that_the_worker_does_not_carry_is_left_aside(api, db):
    foreign = {"workflow": "flow", "version": "9.9", "event": "go", "payload_schema": "{}"}
    body = {"worker": "w1", "pool": "main", "concurrency": 1, "workflows": [{"workflow": "flow", "version": "1.0"}], "events": [foreign]}
    assert (await api.post("/api/v1/worker/register", body)).status == 200
    assert await db.fetchval("select count(*) from event_schemas") == 0


async def test_a_namespace_keeps_so_many_schemas_and_its_workers_register_all_the_same(api, db, monkeypatch):
    monkeypatch.setattr(event_schemas, "MOST_OF_A_NAMESPACE", 2)
    await register(api, "w1", one=INTEGER, two=INTEGER)
    assert (await register(api, "w2", version="2.0", one=INTEGER)).status == 200
    assert await db.fetchval("select count(*) from event_schemas") == 2
    assert (await send(api, await start(api, version="2.0"), "one", "many")).status == 201


async def test_of_one_event_so_many_schemas_are_tried(api, monkeypatch):
    monkeypatch.setattr(engine_schemas, "MOST_OF_AN_EVENT", 1)
    await register(api, "w1", build="a", go=INTEGER)
    run = await start(api)
    assert (await send(api, run, "go", "many")).status == 422
    await register(api, "w2", build="b", go=NULL)
    assert (await send(api, run, "go", "many")).status == 201


async def test_what_is_kept_ready_is_bounded_and_read_again(api, engine, monkeypatch):
    monkeypatch.setattr(engine_schemas, "MOST_READ", 1)
    await register(api, "w1", one=INTEGER, two=NULL, three=OBJECT)
    run = await start(api)
    for _ in range(2):
        for name, payload in (("one", "many"), ("two", 1), ("three", {})):
            assert (await send(api, run, name, payload)).status == 422
    assert len(engine.registry.event_schemas._read) == 1


async def test_schemas_go_with_their_registrations(api, engine, db):
    await register(api, "w1", go=INTEGER)
    await api.post("/api/v1/worker/deregister", {"worker": "w1"})
    assert await db.fetchval("select count(*) from event_schemas") == 1  # a pool may rest at zero
    run = await start(api)
    assert (await send(api, run, "go", "many")).status == 422
    await api.post(f"/api/v1/runs/{run}/cancel")
    await db.execute("update registrations set used_at = now() - interval '9 days'")
    assert await engine.unused.forget(5) == 1
    assert await db.fetchval("select count(*) from event_schemas") == 0
    assert not engine.registry.event_schemas.knows("default", "go")


HOSTILE = [
    {"pattern": "^(a+)+$"},
    {"$ref": "http://127.0.0.1:9/"},
    {"$ref": "#"},
    {"items": {"anyOf": [{"items": {"type": "string"}}] * 100}},
    {"patternProperties": {"(a*)*b": {"$ref": "#"}}},
]


@pytest.mark.parametrize("schema", HOSTILE, ids=[str(schema)[:30] for schema in HOSTILE])
async def test_a_hostile_schema_holds_up_nobody(api, schema):
    """Of another tenant: the payloads are such as would take a whole implementation for ever."""
    tenant = api.as_("other-token")
    assert (await register(tenant, "w1", go=schema)).status == 200
    run = await start(tenant)
    for payload in ("a" * 30_000 + "!", {"a" * 30_000: 1}, [[1] * 100] * 100):
        assert (await send(tenant, run, "go", payload)).status in (201, 422)

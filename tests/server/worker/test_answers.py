"""What an answer to a worker holds is bounded in bytes: what there is no room for stays where it is and comes with a later answer."""

from __future__ import annotations

from uuid import UUID

import pytest

from aiki.protocol import MAX_ANSWER_BYTES, MAX_PAYLOAD_BYTES
from aiki_server.engine.dispatch.claims import Claim
from aiki_server.model.keys import WorkerKey
from aiki_server.model.workers import Carrier
from aiki_server.store.queries.claims import LARGEST_BYTES, WHOLE_BYTES
from support.fake_worker import FakeWorker

RUNS = "/api/v1/runs"
MIB = 1024 * 1024
LARGE = '"' + "x" * (MAX_PAYLOAD_BYTES - 2) + '"'
CHUNK = f'[{{"k":"call","c":0,"a":"task:charge:1","at":1,"more":{LARGE}}}]'
ROOM = MAX_ANSWER_BYTES // len(LARGE) - 1
"""So many of those have room in one answer, beside what else is counted."""


@pytest.fixture
async def start(api, db):
    """Starts so many runs with an input of 2 MiB; their ids."""

    async def starting(count, client=api):
        found = [(await client.post(RUNS, {"workflow": "flow"})).json()["id"] for _ in range(count)]
        await db.execute("update runs set input = $1 where id = any($2::uuid[])", LARGE, found)
        return sorted(found)

    return starting


async def claimed(worker, runs, **more):
    reply = await worker.api.post("/api/v1/worker/claim", {"worker": worker.name, "runs": runs, **more})
    assert reply.status == 200, reply.body
    assert len(reply.body) < MAX_ANSWER_BYTES + MIB
    found = reply.json()
    worker.epochs |= {run["id"]: run["epoch"] for run in found["runs"]}
    return [run["id"] for run in found["runs"]], found


async def receive(db, run, count, *, payload=LARGE):
    """Events that lie there for a run."""
    await db.execute(
        "insert into inbox (run_id, seq, kind, name, payload) select $1, n, 'event', 'go', $2 from generate_series(1, $3::int) n", run, payload, count
    )  # fmt: skip
    await db.execute("update runs set inbox_seq = $1 where id = $2", count, run)


async def test_what_a_claim_has_no_room_for_stays_queued(worker, start, db):
    runs = await start(2 * ROOM + 1)
    first, answer = await claimed(worker, [*runs, "0" * 32])
    assert first == runs[:ROOM]
    assert set(answer["remaining"]) == set(runs[ROOM:])  # and not what is no run
    assert await db.fetchval("select count(*) from runs where status = 'queued'") == len(runs) - ROOM
    second, answer = await claimed(worker, answer["remaining"])
    third, answer = await claimed(worker, answer["remaining"])
    assert sorted([*first, *second, *third]) == runs
    assert "remaining" not in answer


async def test_small_runs_are_all_given_at_once(api, worker):
    reply = await api.post("/api/v1/runs:batch", {"runs": [{"workflow": "flow"}] * 1_000})
    runs, answer = await claimed(worker, [run["id"] for run in reply.json()["runs"]])
    assert len(runs) == 1_000
    assert answer.keys() == {"now", "runs"}
    assert "more" not in answer["runs"][0]


async def test_a_claim_of_any_runs_is_bounded_as_well(worker, start):
    runs = await start(ROOM + 2)
    first, _ = await claimed(worker, None)
    second, _ = await claimed(worker, None)
    assert len(first) == ROOM
    assert sorted(first + second) == runs


async def test_what_lost_answers_granted_is_given_again_in_parts(worker, start):
    runs = await start(ROOM + 2)
    for _ in range(2):
        await claimed(worker, None)
    first, answer = await claimed(worker, [], held=[])
    assert (len(first), answer["more"]) == (ROOM, True)
    second, answer = await claimed(worker, [], held=first)
    assert "more" not in answer
    assert sorted(first + second) == runs


async def test_what_a_run_brings_counts(api, worker, db):
    runs = sorted([(await api.post(RUNS, {"workflow": "flow"})).json()["id"] for _ in range(8)])
    for run in runs:
        await receive(db, run, 3)
    first, answer = await claimed(worker, runs)
    assert first == runs[: MAX_ANSWER_BYTES // (3 * len(LARGE))]
    assert [len(run["inbox"]) for run in answer["runs"]] == [3] * len(first)


async def test_the_workers_of_a_namespace_share_the_room_and_others_have_their_own(api, worker, start, engine):
    other = await FakeWorker(api.as_("other-token"), "w1").register()
    runs = await start(ROOM + 2)
    theirs = await start(2, api.as_("other-token"))
    both = await asking(engine, (("default", "w1"), None), (("default", "w1"), None), (("other", "w1"), None))
    assert [len(given.runs) for given in both] == [0, ROOM, 2] or [len(given.runs) for given in both] == [ROOM, 0, 2]
    assert len((await claimed(worker, runs))[0]) == 2
    assert (await claimed(other, theirs))[0] == []


async def asking(engine, *asked):
    """Claims that come in one batch."""
    carried = frozenset({("flow", "1.0")})
    claims = [Claim(WorkerKey(*worker), Carrier(worker[0], "main", None, carried), runs, 1_000, None) for worker, runs in asked]
    return await engine.claims.batcher.put(claims)


@pytest.mark.parametrize("part", ["inbox", "history"])
async def test_a_run_that_brings_more_than_an_answer_is_read_in_pages(worker, start, db, part):
    (run,) = await start(1)
    count = 2 * ROOM + 1
    if part == "inbox":
        await receive(db, UUID(run), count)
    else:
        inserted = "insert into history (run_id, seq, count, entries, epoch) select $1, n, 1, $2, 1 from generate_series(1, $3::int) n"
        await db.execute(inserted, run, CHUNK, count)
        await db.execute("update runs set history_len = $1 where id = $2", count, run)
    _, answer = await claimed(worker, [run])
    (given,) = answer["runs"]
    assert (given["more"], given["history"], given["inbox"], given["inbox_seq"]) == (True, [], [], count * (part == "inbox"))
    pages, found = [], {"chunk": 0, "item": 0, "more": True}
    while found["more"]:
        asked = {
            "worker": worker.name,
            "run": run,
            "epoch": given["epoch"],
            "chunk": found["chunk"],
            "item": found["item"],
            "inbox_seq": given["inbox_seq"],
        }
        reply = await worker.api.post("/api/v1/worker/replay", asked)
        assert len(reply.body) < MAX_ANSWER_BYTES + MIB
        found = reply.json()
        pages.append(found[part])
    assert len(pages) > 2 - (part == "history")
    texts = [item["payload"] if part == "inbox" else item for page in pages for item in page]
    assert texts == [LARGE if part == "inbox" else CHUNK] * count


async def test_the_rest_is_given_to_who_holds_the_run_only(api, worker, start, db):
    (run,) = await start(1)
    await receive(db, UUID(run), ROOM)
    await claimed(worker, [run])
    asked = {"worker": "w1", "run": run, "epoch": worker.epochs[run], "inbox_seq": ROOM}
    for client, body in (
        (api.as_("other-token"), asked),
        (api, asked | {"worker": "w2"}),
        (api, asked | {"epoch": worker.epochs[run] + 1}),
    ):
        found = (await client.post("/api/v1/worker/replay", body)).json()
        assert (found["stale"], found["history"], found["inbox"]) == (True, [], [])


async def test_news_come_in_parts(worker, start, db):
    (run,) = await start(1)
    await claimed(worker, [run])
    await receive(db, UUID(run), ROOM + 2)
    seen, parts = 0, []
    while seen < ROOM + 2:
        body = {"worker": "w1", "runs": [{"run": run, "epoch": worker.epochs[run], "inbox_seen": seen}]}
        reply = await worker.api.post("/api/v1/worker/inbox", body)
        assert len(reply.body) < MAX_ANSWER_BYTES + MIB
        (found,) = reply.json()["runs"]
        seen = found["inbox"][-1]["seq"]
        parts.append((len(found["inbox"]), reply.json().get("more", False)))
    assert parts == [(ROOM, True), (2, False)]


async def test_what_came_in_comes_with_the_answers_to_commits_in_parts(worker, start, db):
    (run,) = await start(1)
    await claimed(worker, [run])
    await receive(db, UUID(run), ROOM + 2)
    (first,) = await worker.commit(worker.parking(run, due_at=None, events=["never"]))
    (second,) = await worker.commit(worker.parking(run, due_at=None, events=["never"], inbox_seen=first["inbox"][-1]["seq"]))
    assert [(answer["outcome"], len(answer["inbox"])) for answer in (first, second)] == [("inbox_pending", ROOM), ("inbox_pending", 2)]


def test_any_run_has_room_in_an_empty_answer():
    assert LARGEST_BYTES <= MAX_ANSWER_BYTES
    assert WHOLE_BYTES > MAX_PAYLOAD_BYTES

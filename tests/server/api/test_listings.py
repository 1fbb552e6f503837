"""Listings: a page looks at a bounded number of runs whatever its filters keep out, and the pages together have every run once (S39)."""

from __future__ import annotations

import json
from random import Random
from typing import cast
from uuid import UUID

import pytest

from aiki.protocol import Status
from aiki_server.model.listings import Filter
from aiki_server.store import connections
from aiki_server.store.queries import runs
from support.engine.plans import nodes

SOME = """
insert into runs (id, namespace, workflow, version, pool, status, input, due_at, finished_at, parent)
select ('00000000-0000-0000-0000-' || lpad(to_hex(i), 12, '0'))::uuid, 'default', workflow, version, pool, status, '1', now(),
    case when status in ('completed', 'failed') then now() end, parent
from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::uuid[]) with ordinality as u (workflow, version, pool, status, parent, i)
"""
PARENT = "00000000000000000000000000000abc"
MANY = """
insert into runs (id, namespace, workflow, version, pool, status, input, finished_at, parent)
select ('00000000-0000-0000-0000-' || lpad(to_hex(i), 12, '0'))::uuid, 'default', case when i = 1 then 'rare' else 'usual' end, '1', 'main',
    'completed', '1', now(), $1
from generate_series(1, $2::int) as i
"""
MANY_RUNS = 30_000


async def pages(api, **filters):
    """The ids of each page."""
    found: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await api.get("/api/v1/runs", **filters, **cursor)).json()
        found.append([run["id"] for run in page["runs"]])
        if page["next"] is None:
            return found
        cursor = {"cursor": page["next"]}


@pytest.mark.parametrize("seed", range(4))
async def test_pages_have_every_run_that_the_filters_let_through_once_and_in_order(start_server, db, monkeypatch, seed):
    api = await start_server()
    monkeypatch.setattr(runs, "LOOKED_AT", 7)
    random = Random(seed)
    kinds = [("usual", "rare"), ("1", "2"), ("main", "other"), ("queued", "paused", "completed", "failed")]
    rows = [[random.choices(kind, [10, 1] if len(kind) == 2 else None)[0] for kind in kinds] for _ in range(150)]
    parents = [random.choice([None, PARENT]) for _ in rows]
    await db.execute(SOME, *map(list, zip(*rows, strict=True)), parents)
    for _ in range(12):
        filters = {
            name: random.choice(kind) for name, kind in zip(("workflow", "version", "pool"), kinds, strict=False) if random.random() < 0.4
        }
        states = random.sample(kinds[3], random.randrange(5))
        limit = random.randrange(1, 10)
        asked = filters | {"limit": limit} | ({"status": states} if states else {})
        parent = {"parent": PARENT} if random.random() < 0.4 else {}
        found = await pages(api, **asked, **parent)
        wanted = [
            f"{number:032x}"
            for number, (row, of) in enumerate(zip(rows, parents, strict=True), 1)
            if all(row[("workflow", "version", "pool").index(name)] == value for name, value in filters.items())
            and (not states or row[3] in states)
            and (not parent or of == PARENT)
        ]
        assert [run for page in found for run in page] == wanted[::-1], (asked, parent)
        assert all(len(page) <= limit for page in found)


async def test_a_state_that_is_named_twice_is_listed_once(api):
    run = (await api.post("/api/v1/runs", {"workflow": "flow"})).json()["id"]
    assert await pages(api, status=["queued", "queued"]) == [[run]]


class Counting:
    """A connection, and how many rows its statements have read."""

    def __init__(self, connection):
        self._connection = connection
        self.rows = 0

    async def fetch(self, query, *arguments):
        await self._count(query, arguments)
        return await self._connection.fetch(query, *arguments)

    async def fetchval(self, query, *arguments):
        await self._count(query, arguments)
        return await self._connection.fetchval(query, *arguments)

    async def _count(self, query, arguments):
        (plan,) = json.loads(await self._connection.fetchval(f"explain (analyze, format json) {query}", *arguments))
        self.rows += sum(
            (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
            for node in nodes(plan["Plan"])
            if node.get("Relation Name") == "runs"
        )


NOTHING = Filter(None, None, None, None)
NARROWED: dict[str, tuple[Filter, UUID | None, list[str]]] = {
    "workflow": (NOTHING._replace(workflow="rare"), None, list(map(str, Status))),
    "version": (NOTHING._replace(version="2"), None, list(map(str, Status))),
    "pool": (NOTHING._replace(pool="other"), None, ["completed"]),
    "child of a workflow": (NOTHING._replace(workflow="rare"), UUID(PARENT), list(map(str, Status))),
    "child in a state": (NOTHING, UUID(PARENT), ["failed"]),
    "child": (NOTHING, UUID(PARENT), list(map(str, Status))),
    "anything": (NOTHING, None, list(map(str, Status))),
    "ref": (NOTHING._replace(ref="order-1"), None, list(map(str, Status))),
}


@pytest.fixture(params=["as it was", "analyzed"])
async def many(db, request):
    await db.execute(MANY, UUID(PARENT), MANY_RUNS)
    if request.param == "analyzed":
        await db.execute("vacuum (analyze) runs")


@pytest.mark.parametrize("narrowed", NARROWED)
async def test_a_page_looks_at_a_bounded_number_of_runs(many, database_url, narrowed):
    wanted, parent, statuses = NARROWED[narrowed]
    pool = await connections.connect(database_url, size=1, pages=True)
    try:
        for before in (None, UUID(int=MANY_RUNS // 3)):  # a page far down does not begin at the top again
            async with pool.acquire() as connection:
                counting = Counting(connection)
                page = await runs.page(
                    cast("connections.Db", counting), "default", statuses=statuses, before=before, parent=parent, wanted=wanted, limit=100
                )
            assert counting.rows <= 3 * runs.LOOKED_AT
            assert (page.following is not None) == (narrowed != "ref")
    finally:
        pool.close()

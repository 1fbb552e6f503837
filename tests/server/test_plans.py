"""The plans of the hot statements, made as the server makes them: on empty tables, for any arguments, kept for ever."""

from __future__ import annotations

import json
import re

import pytest

from aiki_server.store import database
from aiki_server.store.statements import SQL


@pytest.fixture
async def explain(database_url):
    """The nodes of the generic plan of a statement."""
    pool = await database.connect(database_url, size=2)

    async def plan(name):
        arguments = max((int(number) for number in re.findall(r"\$(\d+)", SQL[name])), default=0)
        async with pool.acquire() as connection:
            await connection.execute(f"prepare asked as {SQL[name]}")
            text = await connection.fetchval(
                f"explain (format json) execute asked{'(' + ', '.join(['null'] * arguments) + ')' if arguments else ''}"
            )
            await connection.execute("deallocate asked")
        return list(nodes(json.loads(text)[0]["Plan"]))

    yield plan
    pool.close()


def nodes(plan):
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def reads_of(found, *tables):
    return [node for node in found if node.get("Relation Name") in tables and "Scan" in node["Node Type"]]


def indexes(found):
    return {node["Index Name"] for node in found if "Index Name" in node}


@pytest.mark.parametrize("name", sorted(SQL))
async def test_no_statement_scans_runs_history_or_inbox(explain, name):
    if "$" not in SQL[name] and name not in ("timers.next", "sweeps.closing", "sweeps.orphans"):
        return  # those look at everything, seldom
    scans = [node["Relation Name"] for node in reads_of(await explain(name), "runs", "history", "inbox") if node["Node Type"] == "Seq Scan"]
    assert scans == []


@pytest.mark.parametrize(
    "name", ["claims.claim", "lanes.lock", "lanes.write", "starts.existing", "runs.results", "claims.tell", "claims.held", "timers.fire"]
)
async def test_rows_are_reached_by_one_look_up_each(explain, name):
    for node in reads_of(await explain(name.replace("claims.held", "claims.news")), "runs"):
        if node["Node Type"] in ("Bitmap Heap Scan", "CTE Scan"):
            continue
        condition = node.get("Index Cond", "")
        assert node["Index Name"] in ("runs_pkey", "runs_ref", "runs_due"), node
        assert re.search(r"\bid = |ref = |due_at <=", condition), node


async def test_the_claim_reaches_runs_by_id_alone(explain):
    used = {index for index in indexes(await explain("claims.claim")) if index.startswith("runs")}
    assert used == {"runs_pkey"}


async def test_a_claim_without_ids_walks_the_queue_in_order(explain):
    found = await explain("claims.claim_any")
    assert "runs_queued" in indexes(found)
    assert not [node for node in found if node["Node Type"] == "Sort"]


async def test_timers_walk_what_is_due_in_order(explain):
    for name in ("timers.fire", "timers.next"):
        found = await explain(name)
        assert "runs_due" in indexes(found)
        assert not [node for node in found if node["Node Type"] == "Sort"]


async def test_a_page_of_runs_is_read_in_order(explain):
    found = await explain("runs.list")
    assert "runs_listed" in indexes(found)


async def test_writes_join_row_by_row(explain):
    joins = [node for node in await explain("lanes.write") if node["Node Type"] == "Nested Loop"]
    for join in joins:
        assert "Join Filter" not in join, "every row against every row"

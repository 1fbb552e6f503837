"""The plans of the hot statements, made as the server makes them: on empty tables, for any arguments, kept for ever."""

from __future__ import annotations

import json
import re

import asyncpg
import pytest

from aiki_server.store import connections, migrate
from aiki_server.store.statements import SQL
from support.engine.plans import nodes

FILL = """
insert into runs (id, namespace, workflow, version, pool, status, input, due_at, waits_events)
select gen_random_uuid(), 'n', 'w', '1', 'p', (array['queued', 'waiting', 'paused'])[1 + i % 3], '1', now(), 'e' from generate_series(1, {rows}) i;
insert into history (run_id, seq, count, entries, epoch) select id, 1, 1, '[]', 1 from runs on conflict do nothing;
insert into inbox (run_id, seq, kind) select id, 1, 'event' from runs on conflict do nothing
"""
EMPTY = "delete from runs; delete from history; delete from inbox"
STATES = {
    "never analyzed": [],
    "analyzed when empty": [EMPTY, "vacuum (analyze) runs, history, inbox", FILL.format(rows=10)],
    "analyzed when nearly empty": [FILL.format(rows=1), "vacuum (analyze) runs, history, inbox", FILL.format(rows=3000)],
    "analyzed when all was deleted": [FILL.format(rows=3000), EMPTY, "analyze runs, history, inbox", FILL.format(rows=10)],
    "analyzed when full": [FILL.format(rows=5000), "vacuum (analyze) runs, history, inbox"],
}


@pytest.fixture(params=STATES)
async def explain(database_url, request):
    """The nodes of the plan that a new connection of the server makes, in each state of the tables."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("drop schema public cascade; create schema public")
    await migrate.migrate(database_url)
    for statement in STATES[request.param]:
        await connection.execute(statement)
    await connection.close()
    pool = await connections.connect(database_url, size=2)

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


def reads_of(found, *tables):
    return [node for node in found if node.get("Relation Name") in tables and "Scan" in node["Node Type"]]


def indexes(found):
    return {node["Index Name"] for node in found if "Index Name" in node}


BY_ID = [
    "claims.claim",
    "lanes.lock",
    "lanes.write",
    "lanes.note_child_cancellations",
    "sweeps.child_cancellations",
    "starts.existing",
    "runs.results",
    "claims.ack_inbox",
    "claims.holding",
    "claims.missed",
    "claims.brought",
    "trials.let_go",
    "trials.figures",
    "lanes.known_events",
    "lanes.inbox_after",
    "timers.fire",
]


def by_key(node):
    """Whether a node of a plan finds rows by their key or their place."""
    condition = node.get("Index Cond", "") + node.get("Recheck Cond", "")
    return (
        node["Node Type"] == "Tid Scan"
        or node.get("Index Name") == "runs_due"
        or re.search(r"\b(run_)?id = |ref = ", condition) is not None
    )


async def test_batches_look_up_each_row_by_its_key(explain):
    """In one test, because a state of the tables is dear to make: what is wrong is all named."""
    reads = {name: reads_of(await explain(name), "runs", "history", "inbox") for name in BY_ID}
    assert {name: wrong for name, found in reads.items() if (wrong := [node for node in found if not by_key(node)])} == {}


async def test_writes_go_to_the_places_that_they_know(explain):
    for name in ("lanes.write", "lanes.advance"):
        found = reads_of(await explain(name), "runs")
        assert found
        assert {node["Node Type"] for node in found} == {"Tid Scan"}, name


def looks_at_everything(name):
    """Seldom: when somebody asks how it is, or after a restore."""
    return ("$" not in SQL[name] and name not in ("timers.next", "sweeps.closing", "sweeps.orphans")) or name.startswith("incarnations.")


async def test_nothing_looks_at_all_runs_to_find_some(explain):
    reads = {name: reads_of(await explain(name), "runs", "history", "inbox") for name in SQL if not looks_at_everything(name)}
    scans = {name: [node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"] for name, found in reads.items()}
    assert {name: tables for name, tables in scans.items() if tables} == {}


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
    for name in ("runs.reach", "runs.list"):
        assert indexes(await explain(name)) == {"runs_listed"}


async def test_the_run_of_a_ref_is_looked_up(explain):
    assert indexes(await explain("runs.of_ref")) == {"runs_ref"}

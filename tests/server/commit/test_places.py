"""A place in a table is no identity: whatever is rewritten, moved or restored, a write reaches the run that it is for, or nothing (S5, S7, S24)."""

from __future__ import annotations

import asyncio
import random
from uuid import UUID

import pytest

from aiki_server.engine.commit.row_cache import Held
from aiki_server.model.rows import Chunk, Place
from aiki_server.store import connections as database
from aiki_server.store.queries import lanes
from aiki_server.store.queries.lanes import ChangedMeanwhileError, Progress, Writes
from support.runs import fast_commits
from support.waiting import until

CALL = {"k": "call", "c": 0, "a": "task:charge:1"}
INSERT = "insert into runs (id, namespace, workflow, status, input) select gen_random_uuid(), 'n', $1, 'queued', '1' from generate_series(1, $2::int)"


@pytest.fixture
async def pool(database_url):
    """Connections as the server has them."""
    connections = await database.connect(database_url, size=2)
    yield connections
    connections.close()
    await asyncio.sleep(0)  # so that the transports end before the loop does


async def shuffle(db, seed=0):
    """Rewrite the table, its rows in another order."""
    await db.execute(f"create index shuffled on runs (workflow, md5(id::text || '{seed}'))")
    await db.execute("cluster runs using shuffled")
    await db.execute("drop index shuffled")


async def places(db, like="%"):
    return {
        row["id"]: Place(row["ctid"], row["xmin"]) for row in await db.fetch("select id, ctid, xmin from runs where workflow like $1", like)
    }


def moved(before, after):
    """How many of the places belong to another run now."""
    owners = {place: run for run, place in after.items()}
    return sum(owners.get(place, run) != run for run, place in before.items())


async def test_an_event_reaches_its_run_after_the_table_was_rewritten(api, worker, db):
    runs = [await worker.start_and_claim() for _ in range(40)]
    await db.execute("vacuum full runs")  # what tests before left behind
    assert {answer["outcome"] for answer in await worker.commit(*[worker.parking(run, CALL, events=["go"]) for run in runs])} == {"parked"}
    remembered, strangers = await places(db, "flow"), 0
    for _ in range(60):  # with rows before them until the runs lie where others of them lay
        await db.execute(INSERT, "a-stranger", 3)
        await shuffle(db)
        strangers = moved(remembered, await places(db, "flow"))
        if strangers >= 5:
            break
    assert strangers >= 5
    for run in runs:  # one after the other: where all change alike, nobody sees who was changed
        assert (await api.post(f"/api/v1/runs/{run}/events", {"name": "go", "payload": run})).status == 201
    for run in runs:
        assert (await api.get(f"/api/v1/runs/{run}")).json()["status"] == "queued"
        assert [event["payload"] for event in (await api.get(f"/api/v1/runs/{run}/history")).json()["undelivered"]] == [run]
    await db.execute("delete from runs where workflow = 'a-stranger'")


class Rewritten:
    """Thirty runs, what a server remembers of them, and whatever moves rows."""

    def __init__(self, pool, db, seed):
        self.pool, self.db = pool, db
        self.chance = random.Random(seed)
        self.remembered: dict[UUID, tuple[Place, int]] = {}
        self.lengths: dict[UUID, int] = {}
        self.refused = 0

    async def shuffle(self):
        await shuffle(self.db, self.chance.random())

    async def rewrite(self):
        await self.db.execute(self.chance.choice(["vacuum full runs", "vacuum runs"]))

    async def insert(self):
        await self.db.execute(INSERT, "stranger", self.chance.randrange(1, 30))

    async def delete(self):
        await self.db.execute("delete from runs where workflow = 'stranger' and random() < 0.5")

    async def write_together(self):
        """As timers and claims do: many rows by one transaction; their histories get no longer."""
        await self.db.execute("update runs set updated_at = now() where random() < 0.5")

    async def remember(self):
        found = (await places(self.db, "one")).items()
        self.remembered |= {run: (place, self.lengths[run]) for run, place in found if self.chance.random() < 0.7}

    async def shuffle_behind_their_backs(self):
        await self.remember()
        await self.shuffle()
        await self.write()

    async def write(self):
        chosen = self.chance.sample(sorted(self.remembered), min(len(self.remembered), self.chance.randrange(1, 8)))
        lie_at = await places(self.db, "one")
        known = {run: self.remembered[run] for run in chosen}
        writes = [Progress(*place, run, 0, length, 1, length + 1, 0, None, False) for run, (place, length) in known.items()]
        chunks = [Chunk(run, length + 1, 1, f'["{run}"]', 0, None) for run, (_, length) in known.items()]
        if not writes:
            return
        try:
            async with self.pool.acquire() as connection:
                written = await lanes.write(connection, Writes(writes, [], chunks, [], [], [], []))
        except ChangedMeanwhileError:
            self.refused += 1
            return
        assert all(lie_at[run] == place for run, (place, _) in known.items())
        self.lengths |= {run: self.lengths[run] + 1 for run in chosen}
        self.remembered |= {run: (place, self.lengths[run]) for run, place in written.places.items()}


@pytest.mark.parametrize("seed", range(6))
async def test_a_write_by_place_changes_its_own_run_or_nothing_however_the_table_is_rewritten(pool, db, seed):
    """The law: rows written together, remembered at any moment, written at any later one; between them whatever moves rows."""
    await db.execute(INSERT, "one", 30)
    law = Rewritten(pool, db, seed)
    law.lengths = dict.fromkeys(await places(db), 0)
    moves = [
        law.shuffle_behind_their_backs,
        law.shuffle,
        law.rewrite,
        law.insert,
        law.delete,
        law.write_together,
        law.remember,
        law.write,
        law.write,
        law.write,
    ]
    for _ in range(60):
        await law.chance.choice(moves)()
        found = await db.fetch("select id, history_len from runs where workflow = 'one'")
        assert {row["id"]: row["history_len"] for row in found} == law.lengths
    told = await db.fetch("select run_id, count(*) as entries from history group by run_id")
    assert {row["run_id"]: row["entries"] for row in told} == {run: length for run, length in law.lengths.items() if length}
    assert law.refused


@pytest.mark.parametrize("change", ["epoch = epoch + 1", "history_len = history_len + 1", "id = gen_random_uuid()"])
async def test_a_place_that_another_server_has_reused_is_not_written(pool, db, change):
    """After a switch to another cluster the same transaction number may have written something else at the same place."""
    run = await db.fetchval(INSERT + " returning id", "one", 1)
    await db.execute(f"update runs set {change}")
    (place,) = (await places(db)).values()
    async with pool.acquire() as connection:
        with pytest.raises(ChangedMeanwhileError):
            await lanes.write(
                connection, Writes([Progress(place.ctid, place.xmin, run, 0, 0, 1, 1, 0, None, False)], [], [], [], [], [], [])
            )


async def test_what_was_remembered_is_forgotten_with_a_lost_connection(api, worker, db):
    runs = [await worker.start_and_claim() for _ in range(3)]
    for run in runs:
        assert await worker.outcome(worker.op(run, CALL)) == "ok"
    before = await fast_commits(api)
    await db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()"
    )
    await until(lambda: _settled(api))
    assert await worker.outcome(worker.op(runs[0], CALL)) == "ok"
    assert await fast_commits(api) == before
    assert await worker.outcome(worker.op(runs[0], CALL)) == "ok"
    assert await fast_commits(api) == before + 1


async def _settled(api):
    return (await api.get("/readyz")).status == 200


async def test_a_connection_that_ends_unnoticed_ends_the_era(pool, db):
    """An idle connection that the database closes raises no error anywhere: the pool makes a new one, perhaps to another server."""
    held = Held()
    pool.when_lost(held.forget)
    async with pool.acquire() as connection:
        pid = await connection.fetchval("select pg_backend_pid()")
    await db.execute("select pg_terminate_backend($1)", pid)

    async def noticed():
        return held.era > 0

    await until(noticed)


async def test_what_an_earlier_era_learnt_is_not_taken_in(db):
    held = Held()
    await db.execute(INSERT, "one", 1)
    (record,) = await db.fetch("select id from runs")
    async with db.transaction():
        found = await lanes.lock(db, {record["id"]}, ending=[])
    row, place = found.rows[record["id"]], found.places[record["id"]]
    held.put(row, place, era=held.era)
    assert held.get(row.id) == (row, place)
    before = held.era
    held.forget()
    assert held.get(row.id) is None
    held.put(row, place, era=before)
    assert held.get(row.id) is None

"""What this machine's Postgres can do at all, measured in the same run as everything else.

Two figures: commits a second of one row each, one after the other (what a step would cost without group commit), and rows a
second in `unnest` inserts of 500 (what group commit can reach).
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass

import asyncpg

ROWS = 500


@dataclass(frozen=True, slots=True)
class Floor:
    """The two floors, per second."""

    commits: float
    rows: float


async def measure_floor(database_url: str, *, seconds: float) -> Floor:
    """Runs each loop for `seconds` on a table of its own, which it drops."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("create table bench_floor(id uuid primary key, payload text)")
        single = "insert into bench_floor values ($1, $2)"
        many = "insert into bench_floor select * from unnest($1::uuid[], $2::text[])"
        commits = await _rate(connection, seconds, single, lambda: (uuid.uuid4(), "x" * 100))
        batches = await _rate(connection, seconds, many, lambda: ([uuid.uuid4() for _ in range(ROWS)], ["x" * 100] * ROWS))
        await connection.execute("drop table bench_floor")
    finally:
        await connection.close()
    return Floor(commits=commits, rows=batches * ROWS)


async def _rate(connection: asyncpg.Connection, seconds: float, statement: str, arguments: object) -> float:
    assert callable(arguments)
    prepared = await connection.prepare(statement)
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        await prepared.fetch(*arguments())
        count += 1
    return count / elapsed

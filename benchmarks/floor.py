"""What this machine can do at all, measured in the same run as everything else.

Commits a second of one row each, one after the other (what a step would cost without group commit); rows a second in `unnest`
inserts of 500 (what group commit can reach); and how long it takes to wake another process and to be woken by it, which a
latency is made of: one step alone has thirteen such changes of hands, an event to a waiting run fifteen.
"""

from __future__ import annotations

import socket
import time
import uuid
from dataclasses import dataclass
from statistics import median

import asyncpg

ROWS = 500
PINGS = 2_000


@dataclass(frozen=True, slots=True)
class Floor:
    """Commits and rows per second; a PING to Valkey and its answer, the median in microseconds."""

    commits: float
    rows: float
    ping: float


async def measure_floor(database_url: str, valkey_socket: str, *, seconds: float) -> Floor:
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
    return Floor(commits=commits, rows=batches * ROWS, ping=_ping(valkey_socket))


def _ping(path: str) -> float:
    samples = []
    with socket.socket(socket.AF_UNIX) as valkey:
        valkey.connect(path)
        for _ in range(PINGS):
            began = time.perf_counter()
            valkey.sendall(b"PING\r\n")
            valkey.recv(64)
            samples.append(time.perf_counter() - began)
    return median(samples) * 1e6


async def _rate(connection: asyncpg.Connection, seconds: float, statement: str, arguments: object) -> float:
    assert callable(arguments)
    prepared = await connection.prepare(statement)
    began, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - began) < seconds:
        await prepared.fetch(*arguments())
        count += 1
    return count / elapsed

"""Ids of runs, as the driver makes them.

Each commit looks a run up some ten times. The driver's UUID is one of Python's to everybody, equal and with the same hash, but it is made,
hashed and compared in C: a tenth of the time.
"""

from __future__ import annotations

from uuid import UUID

from asyncpg.pgproto import pgproto


def run_id_of(written: str | bytes) -> UUID:
    """The id that 32 hexadecimal digits write, or 16 bytes. Raises ValueError for what is none."""
    return pgproto.UUID(written)  # type: ignore[type-var]  # its stub names the types of texts only by a variable

"""What people look at: a run in a listing, a page of them, and a chunk of a history as it lies."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID


class Filter(NamedTuple):
    """What a listing is narrowed to; None means anything."""

    workflow: str | None
    version: str | None
    pool: str | None
    ref: str | None


class Listed(NamedTuple):
    """A run in a listing."""

    id: UUID
    workflow: str
    version: str | None
    pool: str | None
    status: str
    ref: str | None
    parent: UUID | None
    steps: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    due_at: datetime | None


class Page(NamedTuple):
    """Some of a listing; `following` is what the next page is before, None where there is nothing more."""

    runs: list[Listed]
    following: UUID | None


class StoredChunk(NamedTuple):
    """A chunk of history as it lies."""

    seq: int
    size: int
    entries: str
    epoch: int
    worker: str | None
    at: datetime


class Undelivered(NamedTuple):
    """An event that nobody has consumed."""

    seq: int
    name: str
    payload: str
    at: datetime

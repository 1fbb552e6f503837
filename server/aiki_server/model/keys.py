"""What things of one namespace are found by.

A run's id is its own in the whole installation. All other names are the user's, and the next namespace has the same ones: a worker, a
pool, a build, a workflow or a ref is looked up by one of these, which cannot be made without the namespace (I45). So are runs
wherever somebody asks for one by an id of his own choice.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID


class RunKey(NamedTuple):
    """A run, as somebody of a namespace asks for it: another namespace's is not found by its id."""

    namespace: str
    run: UUID


class WorkerKey(NamedTuple):
    """A worker."""

    namespace: str
    worker: str


class PoolKey(NamedTuple):
    """A pool."""

    namespace: str
    pool: str


class BuildKey(NamedTuple):
    """A build of a pool; '' is what was registered without one."""

    namespace: str
    pool: str
    build: str


class WorkflowKey(NamedTuple):
    """A workflow."""

    namespace: str
    workflow: str


class EventKey(NamedTuple):
    """An event that workflows of a namespace wait for."""

    namespace: str
    event: str


class SchemaKey(NamedTuple):
    """What the payload of an event looks like, by the digest of its text."""

    namespace: str
    digest: str


class RefKey(NamedTuple):
    """The ref of a run; no run is found by the ref None."""

    namespace: str
    ref: str | None

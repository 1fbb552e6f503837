"""Starting runs: group commit of single starts, a transaction for each batch, and at most one run per namespace and ref.

An insert that finds its ref taken changes nothing; the run that has it is read afterwards, in a later snapshot, so it is
committed by then. Ids are made before the first attempt, so repeating an insert of unknown outcome creates nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from aiki.protocol import Status
from aiki_server.engine.commit.after_commit import Effects
from aiki_server.engine.runtime.batcher import Batcher
from aiki_server.engine.runtime.retry import repeated
from aiki_server.faults import Faults
from aiki_server.model.keys import RefKey, RunKey
from aiki_server.model.rows import Existing, NewRun
from aiki_server.store.connections import Db, Pool
from aiki_server.store.queries import starts


class Started(NamedTuple):
    """The run is there; `created` by this start, or by an earlier one with the same ref and body."""

    id: UUID
    created: bool
    status: str
    version: str | None
    pool: str | None


@dataclass(frozen=True, slots=True)
class RefTaken:
    """Another start had this ref, with another body."""

    run: UUID


StartAnswer = Started | RefTaken


class _RefusedError(Exception):
    """A start of a batch cannot be: nothing of the batch is written."""

    def __init__(self, answers: list[StartAnswer]) -> None:
        self.answers = answers


class Starts:
    """`batcher` answers single starts; it has to be running. `all_or_none` answers those that belong together."""

    def __init__(self, pool: Pool, *, after: Callable[[Effects], None], faults: Faults) -> None:
        self._pool = pool
        self._after = after
        self._faults = faults
        self.batcher: Batcher[NewRun, StartAnswer] = Batcher("starts", self._apply)

    async def all_or_none(self, wanted: list[NewRun], *, rejects: Sequence[bool]) -> list[StartAnswer]:
        """The answers to these starts. Where one is refused (its ref belongs to another start, or to any run and it `rejects` that), none was made."""
        try:
            answers = await repeated(lambda: self._insert_together(wanted, rejects))
        except _RefusedError as refusal:
            return refusal.answers
        self._made(wanted, answers)
        return answers

    async def _apply(self, wanted: list[NewRun]) -> list[StartAnswer]:
        answers = await repeated(lambda: self._insert(wanted))
        self._made(wanted, answers)
        return answers

    def _made(self, wanted: Sequence[NewRun], answers: Sequence[StartAnswer]) -> None:
        """Tell the world of those that are there by this start, also where an attempt whose outcome was unknown has inserted them."""
        self._faults.at("after_start_commit")
        effects = _effects(run for run, answer in zip(wanted, answers, strict=True) if isinstance(answer, Started) and answer.id == run.id)
        if effects.queued:
            self._faults.at("after_dispatch_commit")
        self._after(effects)

    async def _insert(self, wanted: list[NewRun]) -> list[StartAnswer]:
        async with self._pool.acquire() as db:
            return await _inserted(db, wanted)

    async def _insert_together(self, wanted: list[NewRun], rejects: Sequence[bool]) -> list[StartAnswer]:
        async with self._pool.acquire() as db, db.transaction():
            answers = await _inserted(db, wanted)
            if any(map(_is_refused, answers, rejects)):
                raise _RefusedError(answers)
        return answers


class LostStartError(Exception):
    """A run was neither inserted nor found: retention took the one that was in the way. Starting again works."""


async def _inserted(db: Db, wanted: list[NewRun]) -> list[StartAnswer]:
    created = await starts.insert(db, wanted)
    missing = [run for run in wanted if run.id not in created]
    found = await starts.existing(db, missing) if missing else []
    by_id = {RunKey(there.namespace, there.id): there for there in found}
    by_ref = {RefKey(there.namespace, there.ref): there for there in found if there.ref is not None}
    return [_answer(run, created, by_id, by_ref) for run in wanted]


def _is_refused(answer: StartAnswer, rejects: bool) -> bool:
    return isinstance(answer, RefTaken) or (rejects and not answer.created)


def _answer(run: NewRun, created: set[UUID], by_id: Mapping[RunKey, Existing], by_ref: Mapping[RefKey, Existing]) -> StartAnswer:
    if run.id in created:
        return Started(run.id, created=True, status=run.status, version=run.version, pool=run.pool)
    there = by_id.get(RunKey(run.namespace, run.id)) or by_ref.get(RefKey(run.namespace, run.ref))
    if there is None:
        raise LostStartError(f"run {run.id.hex} was neither inserted nor found")
    if there.id == run.id:  # our own, by an attempt whose outcome was unknown
        return Started(there.id, created=True, status=there.status, version=there.version, pool=there.pool)
    if there.ref_hash != run.ref_hash:
        return RefTaken(there.id)
    return Started(there.id, created=False, status=there.status, version=there.version, pool=there.pool)


def _effects(created: Iterable[NewRun]) -> Effects:
    effects = Effects()
    for run in created:
        place = run.namespace, run.pool, run.workflow, run.version, run.build
        if run.status == Status.QUEUED:
            effects.ring(place, run.id)
            continue
        effects.due_by(run.due_at)
        if run.pool is None or run.version is None:
            effects.unserved.add(place)
    return effects

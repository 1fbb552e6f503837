"""Did every task take effect exactly as it should? The outside world is asked, not Aiki."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from aiki.protocol import HistoryEntry

ANN, BOB = "ann@example.com", "bob@example.com"
VERIFY, TIPS = "Verify your address", "Three things to try first"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so, and what was found."""

    what: str
    expected: object
    found: object

    @property
    def holds(self) -> bool:
        """Whether it is so."""
        return self.expected == self.found


def of_the_world(users: Path, mails: Path) -> Iterator[Check]:
    """The user table, the effects of the tasks on it, and the mails that arrived."""
    states = {(email, state, reason) for email, state, reason in _rows(users, "select email, state, reason from users")}
    yield Check(
        "the user table: Ann is verified, Bob is deactivated", {(ANN, "verified", None), (BOB, "deactivated", "email not verified")}, states
    )
    effects = Counter(_rows(users, "select what, email from effects"))
    once = [("profile", ANN), ("profile", BOB), ("verified", ANN), ("deactivated", BOB)]
    yield Check("every task touched the table once", Counter(once), effects)
    arrived = Counter(_rows(mails, "select recipient, subject from mails"))
    yield Check("three mails arrived, each once", Counter([(ANN, VERIFY), (BOB, VERIFY), (ANN, TIPS)]), arrived)


def of_the_retries(mails: Path, email: str, history: Sequence[HistoryEntry]) -> Iterator[Check]:
    """Each refusal is on record, but for one that the worker may have taken with it when it was killed."""
    refused = len(_rows(mails, "select recipient from refusals where recipient = ?", email))
    recorded = [entry.data["n"] for entry in history if entry.kind == "attempt"]
    yield Check(f"{email}: failed attempts are numbered without a gap", list(range(1, len(recorded) + 1)), recorded)
    yield Check(
        f"{email}: {refused} refusals, {len(recorded)} on record, at most one died with its worker", True, refused - len(recorded) in (0, 1)
    )


def of_the_replay(email: str, history: Sequence[HistoryEntry]) -> Iterator[Check]:
    """The mail went out from another worker than the one that began, and no call has two results."""
    ends = Counter(entry.data["c"] for entry in history if entry.kind in ("done", "failed"))
    yield Check(f"{email}: every call has one result", {1}, set(ends.values()))
    workers = {entry.worker for entry in history if entry.kind in ("done", "attempt")}
    yield Check(f"{email}: two workers took part", 2, len(workers))


def _rows(database: Path, query: str, *values: str) -> list[tuple[str, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(query, values).fetchall()

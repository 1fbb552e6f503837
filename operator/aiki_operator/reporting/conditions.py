"""Conditions of a custom resource: what is true of it now, with a stable reason for programs and a message for people.

`kubectl wait`, Helm and Argo read Ready, Reconciling and Stalled with `observedGeneration`; the others say which part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SUMMARY = ("Ready", "Reconciling", "Stalled")
ORDINARY = frozenset(
    {
        "Starting",
        "Registering",
        "RollingOut",
        "Migrating",
        "WaitingForSecrets",
        "WaitingForDatabase",
        "ServerNotReady",
        "Serving",
        "RolloutStepping",
        "RolloutPaused",
        "Restoring",
        "Fencing",
    }
)
"""Reasons for not being ready that are steps on the way."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `status` None is Unknown."""

    type: str
    status: bool | None
    reason: str
    message: str

    @property
    def word(self) -> str:
        """The status as Kubernetes writes it."""
        return "Unknown" if self.status is None else str(self.status)


@dataclass(frozen=True, slots=True)
class Notice:
    """An event for people; `warning` if it is trouble. It is told once everything in `about` was done."""

    reason: str
    message: str
    warning: bool = False
    about: frozenset[str] = frozenset()


def summary(parts: Sequence[Condition], *, stalled: Condition | None, waiting_for: Condition | None) -> list[Condition]:
    """Ready, Reconciling and Stalled from the parts: stalled needs a person, waiting does not, otherwise all is well."""
    trouble = stalled or waiting_for
    if trouble is None:
        ready = Condition("Ready", True, "Ready", "everything is as the spec asks")
    else:
        ready = Condition("Ready", False, trouble.reason, trouble.message)
    moving = waiting_for if stalled is None else None
    return [
        ready,
        Condition("Reconciling", True, moving.reason, moving.message)
        if moving
        else Condition("Reconciling", False, "Done" if trouble is None else "Stalled", ready.message),
        Condition("Stalled", True, stalled.reason, stalled.message)
        if stalled
        else Condition("Stalled", False, "Progressing", "nothing needs a person"),
        *parts,
    ]


def overruled(conditions: Sequence[Condition], part: Condition, *, lasting: bool) -> tuple[Condition, ...]:
    """The conditions with another word on one of the parts, which is not as it should be."""
    parts = [part if one.type == part.type else one for one in conditions if one.type not in SUMMARY]
    if part not in parts:
        parts.append(part)
    stalled = part if lasting else next((one for one in conditions if one.type == "Stalled" and one.status), None)
    return tuple(summary(parts, stalled=stalled, waiting_for=part))


def taken(pool: str, holder: str) -> tuple[Condition, ...]:
    """The conditions of a worker pool whose name at the server is another's."""
    return _stalled(
        "PoolTaken", f"AikiWorkerPool {holder} serves the pool {pool} already: give this one another name, or another spec.pool"
    )


def elsewhere(server: str, other: str, own: str, namespace: str) -> tuple[Condition, ...]:
    """The conditions of a worker pool that the installation which acts for its server does not serve."""
    return _stalled(
        "OtherOperator",
        f"the operator {other} acts for AikiServer {server} and does not serve namespace {namespace}; the operator {own}, which does, leaves "
        f"that server's pools alone: add {namespace} to operator.namespaces of the first, or take {server.partition('/')[0]} out of those of the second",
    )


def _stalled(reason: str, message: str) -> tuple[Condition, ...]:
    part = Condition("RolloutComplete", False, reason, message)
    return tuple(summary([part], stalled=part, waiting_for=None))


def render(conditions: Sequence[Condition], *, before: Sequence[Mapping[str, Any]], generation: int, now: str) -> list[dict[str, Any]]:
    """The conditions as Kubernetes keeps them: the transition time moves only when the status does."""
    known = {condition["type"]: condition for condition in before}
    return [_render(condition, known.get(condition.type), generation=generation, now=now) for condition in conditions]


def _render(condition: Condition, before: Mapping[str, Any] | None, *, generation: int, now: str) -> dict[str, Any]:
    same = before is not None and before.get("status") == condition.word
    return {
        "type": condition.type,
        "status": condition.word,
        "reason": condition.reason,
        "message": sentence(condition.message)[:1024],
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and same else now,
    }


def sentence(message: str) -> str:
    """A message as a whole sentence, for people who read a status from top to bottom; names and commands stay as they are.

    >>> sentence("the server answers"), sentence("aiki-postgres is ready"), sentence("run `kubectl get pods`")
    ('The server answers.', 'aiki-postgres is ready.', 'Run `kubectl get pods`')
    """
    first, _, _ = message.partition(" ")
    begun = message[:1].upper() + message[1:] if first.isalpha() else message
    return begun if begun.endswith((".", "!", "?", "`", "'", ":")) or not begun else f"{begun}."


def turns(before: Sequence[Mapping[str, Any]], now: Sequence[Condition], *, story: bool = False) -> list[Notice]:
    """The events that a change of conditions is worth: trouble, its end, and with `story` each step of a roll-out.

    They are derived from the conditions that the resource has already, so an operator that starts again repeats nothing.
    """
    old = {one["type"]: one for one in before}
    found = {one.type: one for one in now}
    backup = _backup_turn(old.get("BackupReady"), found.get("BackupReady"))
    return [*_turns(before, now, story=story), *([] if backup is None else [backup])]


def _backup_turn(before: Mapping[str, Any] | None, now: Condition | None) -> Notice | None:
    """Backups are beside what Ready says: their trouble, and the end of it."""
    if now is None or (before or {}).get("reason") == now.reason:
        return None
    if now.status is False:
        return Notice(now.reason, now.message, warning=True)
    return Notice(now.reason, now.message) if now.status else None


def _turns(before: Sequence[Mapping[str, Any]], now: Sequence[Condition], *, story: bool) -> list[Notice]:
    old = {one["type"]: one for one in before}
    found = {one.type: one for one in now}
    trouble = _trouble(found.get("Stalled")) or _trouble(found.get("Reconciling"))
    was = next((one["reason"] for one in before if one["type"] == "Ready" and one["status"] != "True"), None)
    if trouble is not None and trouble.reason != was:
        return [Notice(trouble.reason, trouble.message, warning=True)]
    if trouble is not None:
        return []
    if was is not None and was not in ORDINARY and found["Ready"].status:
        return [Notice("Ready", f"what was wrong is over ({was}): {found['Ready'].message}")]
    step = found.get("RolloutComplete")
    if story and step is not None and step.reason != old.get("RolloutComplete", {}).get("reason"):
        return [Notice(step.reason, step.message)]
    return []


def _trouble(condition: Condition | None) -> Condition | None:
    """The condition, if it is true and more than a step on the way."""
    return condition if condition is not None and condition.status and condition.reason not in ORDINARY else None

"""Conditions of a custom resource: what is true of it now, with a stable reason for programs and a message for people.

`kubectl wait`, Helm and Argo read Ready, Reconciling and Stalled with `observedGeneration`; the others say which part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


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


def refusal(message: str) -> tuple[Condition, ...]:
    """The conditions of a resource whose objects the API server will not take."""
    return _stalled("ManifestRefused", f"the API server refuses what the spec asks for: {message}")


def taken(pool: str, holder: str) -> tuple[Condition, ...]:
    """The conditions of a worker pool whose name at the server is another's."""
    return _stalled(
        "PoolTaken", f"AikiWorkerPool {holder} serves the pool {pool} already: give this one another name, or another spec.pool"
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
        "message": condition.message[:1024],
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if before is not None and same else now,
    }

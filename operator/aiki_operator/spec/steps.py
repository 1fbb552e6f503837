"""What a pool asks of a roll-out: steps, each with a share of the new runs and how long it is looked at, and a gate that holds it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

EVERYTHING = "all"
_UNITS = {"h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """A share of the new runs, and for how many seconds; None until a person goes on."""

    percent: int
    pause_seconds: float | None


@dataclass(frozen=True, slots=True)
class Gate:
    """How many of a hundred runs may fail, of those that have ended or fail; judged from so many on."""

    max_failed_percent: int
    min_runs: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """Steps, in order; behind the last one the build takes over."""

    steps: tuple[RolloutStep, ...]
    gate: Gate | None


def parse_rollout(rollout: Json | None) -> Rollout | None:
    """The roll-out of a spec."""
    if rollout is None:
        return None
    steps = tuple(RolloutStep(one["percent"], seconds(one["pause"]) if "pause" in one else None) for one in rollout["steps"])
    gate = rollout.get("gate")
    return Rollout(steps, None if gate is None else Gate(gate["maxFailedPercent"], gate.get("minRuns", 10)))


def seconds(text: str) -> float:
    """A length of time, as Kubernetes writes it.

    >>> seconds("1h30m"), seconds("90s")
    (5400.0, 90.0)
    """
    return float(sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)([hms])", text)))


def lasting(length: float) -> str:
    """The same, to be read.

    >>> lasting(5400), lasting(45)
    ('1h30m', '45s')
    """
    left, parts = round(length), []
    for unit, size in _UNITS.items():
        if left >= size:
            parts.append(f"{left // size}{unit}")
        left %= size
    return "".join(parts) or "0s"

"""How far a roll-out has come: the step that a new build is at, whether it goes on, and what it is told by whom.

Everything that is needed to go on is in the pool's status: the build, the step, when it began, and what held it. So an operator that starts anew, or
takes over in the middle of a step, goes on where the last one was. Time is the time of day, because it must mean the same to both.

A build is *held* by its gate, and stays held: that fewer runs fail an hour later is no proof that it is good, since a held build gets no new runs. A person
lets it go on, by another gate, another template, or the annotation. A build none of whose pods works gets no new runs either; it goes on by itself when one
does, and its step begins anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from aiki_operator.scaling.load import RolloutTrial
from aiki_operator.spec.steps import EVERYTHING, Gate, Rollout, lasting

Json = Mapping[str, Any]


class RolloutStage(StrEnum):
    """What a step is doing."""

    STEPPING = "Stepping"
    """Its time is not over, or too few runs have ended to judge it."""
    PAUSED = "Paused"
    """It waits for a person, as it was asked to."""
    HELD = "Held"
    UNHEALTHY = "Unhealthy"
    """No pod of the build works."""


@dataclass(frozen=True, slots=True)
class RolloutProgress:
    """Where the roll-out of a build stands; `step` counts from 1."""

    build: str
    step: int
    since: float
    """When the step began, in Unix seconds."""
    stage: RolloutStage = RolloutStage.STEPPING
    allowed: int | None = None
    """The threshold that held it."""


def parse_progress(status: Json | None) -> RolloutProgress | None:
    """What the status says."""
    if not status:
        return None
    since = datetime.fromisoformat(status["since"]).timestamp()
    return RolloutProgress(status["build"], status["step"], since, RolloutStage(status["stage"]), status.get("allowedPercent"))


def failed_percent(trial: RolloutTrial) -> float:
    """How many of a hundred runs fail, of those that have ended or fail."""
    return 100 * trial.failing / trial.judged if trial.judged else 0.0


def advanced(
    rollout: Rollout, before: RolloutProgress | None, build: str, *, trial: RolloutTrial, sick: bool, word: str, now: float
) -> RolloutProgress | None:
    """Where the roll-out of a build stands now; None where the build is to take over. `word` is what a person has said (see `continue_word`)."""
    if word == f"{build}/{EVERYTHING}":
        return None
    if before is None or before.build != build:
        return RolloutProgress(build, 1, now)
    if before.step > len(rollout.steps):  # there were more
        return None
    if before.stage is RolloutStage.HELD and rollout.gate is not None and rollout.gate.max_failed_percent == before.allowed:
        return before
    if rollout.gate is not None and _fails(rollout.gate, trial):
        return replace(before, stage=RolloutStage.HELD, allowed=rollout.gate.max_failed_percent)
    if sick:
        return replace(before, stage=RolloutStage.UNHEALTHY, allowed=None)
    if before.stage in (RolloutStage.HELD, RolloutStage.UNHEALTHY):
        return RolloutProgress(build, before.step, now)
    return _timed(rollout, before, trial, word=word, now=now)


def _timed(rollout: Rollout, before: RolloutProgress, trial: RolloutTrial, *, word: str, now: float) -> RolloutProgress | None:
    step = rollout.steps[before.step - 1]
    if word != f"{before.build}/{before.step}":
        if step.pause_seconds is None:
            return replace(before, stage=RolloutStage.PAUSED)
        if now - before.since < step.pause_seconds or not _seen_enough(rollout, trial):
            return replace(before, stage=RolloutStage.STEPPING)
    return None if before.step == len(rollout.steps) else RolloutProgress(before.build, before.step + 1, now)


def _fails(gate: Gate, trial: RolloutTrial) -> bool:
    return trial.judged >= gate.min_runs and failed_percent(trial) > gate.max_failed_percent


def _seen_enough(rollout: Rollout, trial: RolloutTrial) -> bool:
    """A step that nobody ran through has shown nothing."""
    return rollout.gate is None or trial.judged >= rollout.gate.min_runs


def percent_of(rollout: Rollout, progress: RolloutProgress) -> int:
    """The share of the new runs that the build is to have."""
    return 0 if progress.stage in (RolloutStage.HELD, RolloutStage.UNHEALTHY) else rollout.steps[progress.step - 1].percent


# ---- what people are told -------------------------------------------------------------------------------------------


def status_of(rollout: Rollout, progress: RolloutProgress, trial: RolloutTrial) -> Json:
    """What the pool's status keeps."""
    percent, count = percent_of(rollout, progress), len(rollout.steps)
    word = f"{percent}%" if progress.stage is RolloutStage.STEPPING else progress.stage.lower()
    found = {
        "build": progress.build,
        "step": progress.step,
        "steps": count,
        "percent": percent,
        "since": datetime.fromtimestamp(progress.since, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "stage": str(progress.stage),
        "summary": f"{progress.step}/{count} {word}",
        "runs": trial.runs,
        "completed": trial.completed,
        "failing": trial.failing,
    }
    return found if progress.allowed is None else {**found, "allowedPercent": progress.allowed}


def describe(rollout: Rollout, progress: RolloutProgress, trial: RolloutTrial, *, serving: str, place: str, now: float) -> str:
    """How the roll-out stands, without its subject, which is the build. `place` names the pool to kubectl."""
    step = f"step {progress.step} of {len(rollout.steps)}"
    match progress.stage:
        case RolloutStage.HELD:
            allowed = (
                f"{trial.failing} of {trial.judged} runs fail ({failed_percent(trial):.0f} %), and the gate allows {progress.allowed} %"
            )
            return (
                f"is held at {step}: {allowed}. It gets no new runs; build {serving} does. Apply a template that mends it, or the former one; "
                f"to let it take over all the same: {continue_command(place, progress.build, EVERYTHING)}"
            )
        case RolloutStage.UNHEALTHY:
            return f"is at {step}, and none of its pods works: it gets no new runs until one does; build {serving} gets them"
        case RolloutStage.PAUSED:
            on = continue_command(place, progress.build, str(progress.step))
            return f"{_gets(rollout, progress)}, {step}, and waits for a person: {_seen(rollout, trial)}. To go on: {on}"
        case RolloutStage.STEPPING:
            return f"{_gets(rollout, progress)}, {step}, {_until(rollout, progress, trial, now=now)}: {_seen(rollout, trial)}"


def continue_command(place: str, build: str, what: str) -> str:
    """What a person types to let a build go on: past a step, or past all."""
    return f"`kubectl annotate {place} aiki.dev/continue={build}/{what} --overwrite`"


def describe_start(rollout: Rollout, progress: RolloutProgress) -> str:
    """That a step has begun, as an event."""
    pause = rollout.steps[progress.step - 1].pause_seconds
    length = "until a person goes on" if pause is None else f"for {lasting(pause)}"
    return f"build {progress.build} {_gets(rollout, progress)}, step {progress.step} of {len(rollout.steps)}, {length}"


def _gets(rollout: Rollout, progress: RolloutProgress) -> str:
    return f"gets {percent_of(rollout, progress)} % of the new runs"


def _until(rollout: Rollout, progress: RolloutProgress, trial: RolloutTrial, *, now: float) -> str:
    pause = rollout.steps[progress.step - 1].pause_seconds or 0.0
    if now - progress.since >= pause and rollout.gate is not None:
        return f"until {rollout.gate.min_runs} of its runs have ended or fail"
    return f"until {datetime.fromtimestamp(progress.since + pause, UTC):%H:%M:%S} UTC"


def _seen(rollout: Rollout, trial: RolloutTrial) -> str:
    gate = "" if rollout.gate is None else f" (the gate allows {rollout.gate.max_failed_percent} % from {rollout.gate.min_runs} runs on)"
    return f"{trial.runs} runs were drawn for it, {trial.completed} have completed, {trial.failing} fail{gate}"

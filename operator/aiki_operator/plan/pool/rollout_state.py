"""Where a roll-out in steps stands, for conditions, events, the status and the sizes.

Its figures change with each run. They are told again where something has turned, or every few seconds, so that a roll-out costs no write a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aiki_operator.plan.pool.handover import Handover
from aiki_operator.plan.pool.progress import RolloutProgress, describe, percent_of, status_of
from aiki_operator.plan.pool.state import ObservedPool
from aiki_operator.scaling.autoscale import ScalingInputs
from aiki_operator.scaling.load import RolloutTrial
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.steps import Rollout

FIGURES_SECONDS = 10.0
"""How old the figures may be that people see."""


@dataclass(frozen=True, slots=True)
class RolloutState:
    """What was asked for, where it stands, and what was seen of the runs that were drawn."""

    rollout: Rollout
    progress: RolloutProgress
    trial: RolloutTrial
    seen_at: float
    """When that was, on the operator's own clock."""
    at_unix: float

    def describe(self, owner: Owner, serving: str) -> str:
        """The same in words, behind the name of the build."""
        place = f"aikiworkerpool/{owner.name} -n {owner.namespace}"
        return describe(self.rollout, self.progress, self.trial, serving=serving, place=place, now=self.at_unix)

    def status(self) -> Mapping[str, Any]:
        """What the status keeps."""
        return status_of(self.rollout, self.progress, self.trial)

    def shared(self, inputs: ScalingInputs) -> ScalingInputs:
        """The builds with the parts of the arrivals that they get."""
        share = percent_of(self.rollout, self.progress) / 100
        parts = {build.name: 1 - share if build.latest else None for build in inputs.builds} | {self.progress.build: share}
        return replace(inputs, builds=tuple(replace(build, share=parts[build.name]) for build in inputs.builds))


def rollout_state(
    rollout: Rollout | None, hand: Handover, observed: ObservedPool, seen: tuple[float, RolloutTrial] | None, now: float
) -> RolloutState | None:
    """Where it stands, with what was seen of it before where that may be told again."""
    progress = hand.progress
    if progress is None or rollout is None or progress.step > len(rollout.steps):
        return None
    told_before = seen if seen is not None and seen[1].build == progress.build else None
    if told_before is not None and (hand.trial is None or (progress == observed.progress and now - told_before[0] < FIGURES_SECONDS)):
        return RolloutState(rollout, progress, told_before[1], told_before[0], observed.at_unix)
    return RolloutState(rollout, progress, hand.trial or RolloutTrial(progress.build, 0), now, observed.at_unix)

"""What the plan of a worker pool looks at: its builds in the cluster, and the server's view of them, or its silence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiki_operator.manifests.pods.references import Reference
from aiki_operator.plan.pods import Pod, PodProblem
from aiki_operator.plan.pool.progress import RolloutProgress
from aiki_operator.scaling.load import Load
from aiki_operator.spec.pool import PoolSpec


@dataclass(frozen=True, slots=True)
class DeployedBuild:
    """A build that has a Deployment, newest first. `refused` says why Kubernetes makes no pods for it."""

    spec: PoolSpec
    replicas: int
    pods: tuple[Pod, ...]
    refused: PodProblem | None = None

    @property
    def name(self) -> str:
        """The build."""
        return self.spec.build

    @property
    def ready(self) -> int:
        """Pods that are ready and stay."""
        return sum(1 for pod in self.pods if pod.ready and not pod.leaving)


NOT_ALLOWED = "NotAllowed"
"""Why a pool is told nothing that its server does not admit."""


@dataclass(frozen=True, slots=True)
class LoadUnavailable:
    """The server's answer is missing: for how long, and why. `lasting` where waiting does not help."""

    seconds: float
    reason: str
    message: str
    lasting: bool = False


@dataclass(frozen=True, slots=True)
class ObservedPool:
    """Everything the plan looks at. `config` is the client Secret's digest, None while there is no such Secret."""

    deployed: tuple[DeployedBuild, ...]
    load: Load | LoadUnavailable
    config: str | None
    serving: str | None
    """The build that the status says was promoted last."""
    contents: Mapping[Reference, str] = field(default_factory=dict)
    """Digests of the Secrets and ConfigMaps that the builds take their environment from."""
    at_unix: float = 0.0
    """The time of day, in Unix seconds."""
    progress: RolloutProgress | None = None
    """Where the status says that a roll-out stands."""

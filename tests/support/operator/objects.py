"""Objects as the operator sees them: custom resources, pods and the server's readings, with only what a test is about spelled out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiki_operator.names import BUILD_LABEL
from aiki_operator.plan.pods import Pod, PodProblem
from aiki_operator.scaling.autoscale import Demand, LoadRates
from aiki_operator.scaling.load import BuildLoad, Load, PoolWorker
from aiki_operator.spec.pool import Versioning
from aiki_operator.spec.server import ServerSpec, parse_server

Json = Mapping[str, Any]


def pool_body(*, name: str = "onboarding", image: str = "example.com/onboarding:1", generation: int = 1, **spec: Any) -> dict[str, Any]:
    """An AikiWorkerPool."""
    return {
        "apiVersion": "aiki.dev/v1alpha1",
        "kind": "AikiWorkerPool",
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-of-{name}", "generation": generation},
        "spec": {"serverRef": {"name": "aiki"}, "image": image, **spec},
    }


def server_body(*, name: str = "aiki", generation: int = 1, **spec: Any) -> dict[str, Any]:
    """An AikiServer."""
    return {
        "apiVersion": "aiki.dev/v1alpha1",
        "kind": "AikiServer",
        "metadata": {"name": name, "namespace": "shop", "uid": f"uid-of-{name}", "generation": generation},
        "spec": spec,
    }


def pod(name: str, *, build: str = "b", ready: bool = True, leaving: bool = False, cost: str | None = None, **more: Any) -> Pod:
    """A pod as the plans see it; `trouble` in `more` says what is the matter."""
    return Pod(name, build, ready, leaving, more.get("ended", False), cost, more.get("trouble"))


def crash(reason: str = "CrashLoop", *, lasting: bool = True) -> PodProblem:
    """The matter with a pod."""
    return PodProblem(reason, f"it is a {reason}", lasting=lasting)


def worker(pod_name: str | None, *, build: str = "b", active: int = 0, draining: bool = False, age: float = 60) -> PoolWorker:
    """The worker in a pod; its id is the pod's name with a w in front."""
    return PoolWorker(f"w-{pod_name}", pod_name, build, active, draining, age)


def build_load(name: str, *, promoted: bool = True, needed: int = 0, **demand: Any) -> BuildLoad:
    """What the server knows of a build."""
    return BuildLoad(name, promoted, needed, Demand(**demand))


def load(*builds: BuildLoad, workers: tuple[PoolWorker, ...] = (), **more: Any) -> Load:
    """A reading of a pool; the totals are those of its builds."""
    return Load(
        versioning=more.get("versioning", Versioning.BY_VERSION),
        rates=more.get("rates", LoadRates(0.0, 1.0)),
        complete=more.get("complete", True),
        lag=0 if more.get("complete", True) else None,
        queued=sum(build.demand.queued for build in builds),
        running=sum(build.demand.running for build in builds),
        due=more.get("due", ()),
        builds=builds,
        workers=workers,
    )


def pod_object(name: str, *, build: str = "b", namespace: str = "shop", **status: Any) -> dict[str, Any]:
    """A pod as Kubernetes gives it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {BUILD_LABEL: build}},
        "status": {"phase": "Running", **status},
    }


def container(name: str = "worker", *, restarts: int = 0, **state: Any) -> dict[str, Any]:
    """A container's status; `last` in `state` is how it ended the time before."""
    last = state.pop("last", None)
    found = {"name": name, "image": "example.com/onboarding:1", "restartCount": restarts, "state": state}
    return found if last is None else {**found, "lastState": {"terminated": last}}


def ended(code: int, *, reason: str = "Error", message: str = "") -> dict[str, Any]:
    """How a container ended."""
    return {"exitCode": code, "reason": reason, "message": message}


def parsed(**spec: Any) -> ServerSpec:
    """An AikiServer with this spec, as the operator reads it."""
    return parse_server(server_body(**spec), default_image="i")

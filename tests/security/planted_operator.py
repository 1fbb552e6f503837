"""Secrets planted where the operator meets them: in variables, labels, annotations and Secrets, and in what others say of the objects that hold them.

The operator's own shells and plans work over a small Kubernetes API, which refuses, and whose pods end, in the words of the real ones.
"""

from __future__ import annotations

import io
import json
import logging
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from prometheus_client import generate_latest

from aiki.shared.logs import JsonLines
from aiki.shared.redaction import Redactor
from aiki_operator.kubernetes.client import Cluster
from aiki_operator.reporting.conditions import ORDINARY
from aiki_operator.reporting.telemetry import log_fields
from security.plants import Plants
from support.operator.fake_kubernetes import FakeKubernetes, serve_kubernetes
from support.operator.objects import pool_body, server_body
from support.operator.turns import POOL, Operator, condition, start_pods

Words = Callable[[str], str]
"""What somebody says, with a secret in it."""
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

REFUSALS: Mapping[str, tuple[int, Words]] = {
    "a variable of the wrong type": (
        500,
        lambda s: (
            f'failed to create typed patch object: .spec.template.spec.containers[name="worker"].env[name="P"].value: '
            f"expected string, got &value.valueUnstructured{{Value:{s}}}"
        ),
    ),
    "a list in a map's place": (500, lambda s: f"failed to create typed patch object: .spec.x: expected map, got &[map[name:P value:{s}]]"),
    "a template that is in the whole answer": (
        422,
        lambda s: (
            f'Job.batch "m" is invalid: spec.template: Invalid value: core.PodTemplateSpec{{Env:[]core.EnvVar{{Value:"{s}"}}}}: field is immutable'
        ),
    ),
    "the same as JSON": (422, lambda s: f'spec.template: Invalid value: {{"env":[{{"name":"P","value":"{s}"}}]}}: field is immutable'),
    "a webhook that quotes": (403, lambda s: f'admission webhook "w" denied the request: env P={s} is not allowed'),
    "a webhook that quotes in base64": (400, lambda s: f"denied: {b64encode(s.encode()).decode()} is not allowed"),
    "a URL": (403, lambda s: f"denied: postgresql://u:{s}@h/d is not allowed"),
}
ENDINGS: Mapping[str, Words] = {
    "a traceback": lambda s: f"Traceback (most recent call last):\nValueError: cannot charge {s}",
    "the traceback of a library": lambda s: f"Traceback\nsqlalchemy.exc.ArgumentError: Could not parse URL from string '{s}'",
    "a line of its own": lambda s: f"cannot charge {s}",
    "a JSON line of its own": lambda s: json.dumps({"message": f"cannot charge {s}"}),
    "a line in the form of an error": lambda s: f"Error: {s}",
}
WAITING: Mapping[str, Words] = {
    "RunContainerError": lambda s: f'failed to create containerd task: exec: "{s}": executable file not found in $PATH',
    "CreateContainerConfigError": lambda s: f"env P={s} is not valid",
}


async def of_operator(plants: Plants) -> list[str]:
    """What the operator writes somewhere that is not the place of the secret."""
    breaches: list[str] = []
    for name, (status, say) in REFUSALS.items():
        breaches += await _scene(plants, name, partial(_refuse, status, say))
    for name, end in ENDINGS.items():
        breaches += await _scene(plants, f"the end of a pod: {name}", partial(_end, end))
    for reason, wait in WAITING.items():
        breaches += await _scene(plants, reason, partial(_wait, reason, wait))
    return breaches


async def _scene(plants: Plants, name: str, trouble: Callable[[FakeKubernetes, str], None]) -> list[str]:
    """A pool and a server that serve; then the trouble, whose words have the value of the pool's variable."""
    secret = plants.plant(f"a variable of a pool: {name}")
    variables: dict[str, Any] = {"env": [{"name": "P", "value": secret}]}
    noted = {LAST_APPLIED: json.dumps(variables), "example.com/note": plants.plant("an annotation")}
    kubernetes = FakeKubernetes()
    for body in (server_body(env=[{"name": "S", "value": plants.plant("a variable of a server")}]), pool_body(minReplicas=1, **variables)):
        meta = {**body["metadata"], "annotations": noted, "labels": {"example.com/label": plants.plant("a label")}}
        kubernetes.put({**body, "metadata": meta})
    with _log() as log:
        async with serve_kubernetes(kubernetes) as cluster:
            await _turns(kubernetes, cluster, secret, trouble)
    if (ready := condition(kubernetes, POOL, "Ready"))["status"] != "False" or ready["reason"] in ORDINARY:
        return [f"the operator does not tell of {name}: {ready}"]
    told = {**_told(kubernetes), "the operator's log": log.getvalue(), "the operator's figures": generate_latest().decode()}
    return [found for where, text in told.items() for found in plants.found(text, where)]


async def _turns(kubernetes: FakeKubernetes, cluster: Cluster, secret: str, trouble: Callable[[FakeKubernetes, str], None]) -> None:
    operator = Operator(kubernetes, cluster)
    await operator.server_until_ready()
    await operator.pool()
    start_pods(kubernetes)
    trouble(kubernetes, secret)
    if kubernetes.refuse:  # there must be something to write
        body = kubernetes.objects[POOL]
        kubernetes.put({**body, "spec": {**body["spec"], "image": "example.com/onboarding:2"}})
    for _ in range(2):
        await operator.server()
        await operator.pool()
        operator.clock.now += 60.0


def _refuse(status: int, say: Words, kubernetes: FakeKubernetes, secret: str) -> None:
    kubernetes.refuse = dict.fromkeys(("Deployment", "Job", "StatefulSet", "Service"), (status, say(secret)))


def _end(say: Words, kubernetes: FakeKubernetes, secret: str) -> None:
    ended = {"exitCode": 1, "reason": "Error", "message": say(secret)}
    _states(kubernetes, {"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}})


def _wait(reason: str, say: Words, kubernetes: FakeKubernetes, secret: str) -> None:
    _states(kubernetes, {"restartCount": 0, "state": {"waiting": {"reason": reason, "message": say(secret)}}})


def _states(kubernetes: FakeKubernetes, status: Mapping[str, Any]) -> None:
    """All pods of the pool are as `status` says of their container; they have the variables of their Deployment."""
    (workload,) = [one for one in kubernetes.of("Deployment") if one["metadata"]["name"].startswith("onboarding")]
    for pod in kubernetes.of("Pod"):
        found = {**pod, "spec": workload["spec"]["template"]["spec"]}
        kubernetes.put({**found, "status": {"phase": "Running", "containerStatuses": [{"name": "worker", "image": "i", **status}]}})


def _told(kubernetes: FakeKubernetes) -> dict[str, str]:
    """What people and tools read without looking into templates and Secrets: metadata of what the operator made, statuses, events."""
    told = {}
    for (kind, _, name), body in kubernetes.objects.items():
        parts = {"status": body.get("status")} if kind.startswith("Aiki") else {"metadata": body["metadata"]}
        told[f"{kind} {name}"] = json.dumps(body if kind == "Event" else parts)
    return told


@contextmanager
def _log() -> Iterator[io.StringIO]:
    """All that is logged, as the operator writes it."""
    text = io.StringIO()
    handler, root = logging.StreamHandler(text), logging.getLogger()
    handler.setFormatter(JsonLines(log_fields(Redactor())))
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(before)

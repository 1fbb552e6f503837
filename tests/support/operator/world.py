"""The objects of one AikiServer in a world without Kubernetes, for tests of its plan."""

from __future__ import annotations

from typing import Any

from aiki_operator.plan.difference import must_write
from aiki_operator.plan.pods import Pod, PodProblem
from aiki_operator.plan.server.migration import ContainerEnding
from aiki_operator.plan.server.plan import ObservedServer, ServerPlan, database_reads, plan
from aiki_operator.spec.server import parse_server
from support.operator.objects import server_body

IMAGE = "example.com/aiki-server:1"
POSTGRES_IMAGE = "example.com/aiki-postgres:1"
NOW = 1_767_268_800.0  # 2026-01-01T12:00:00Z


class World:
    """The objects of one AikiServer; a turn does what the plan says, and `settle` what Kubernetes does."""

    def __init__(self, **spec: Any) -> None:
        self.spec = parse_server(server_body(**spec), default_image=IMAGE, postgres_image=POSTGRES_IMAGE)
        self.secrets: dict[str, Any] = {}
        self.objects: dict[tuple[str, str], Any] = {}
        self.pods: dict[str, tuple[Pod, ...]] = {}
        self.endings: tuple[ContainerEnding, ...] = ()
        self.no_pods: dict[tuple[str, str], PodProblem] = {}
        self.before: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.jobs: dict[str, tuple[ContainerEnding, ...]] = {}
        self.backups: dict[str, Any] = {}
        self.writes: list[str] = []

    def turn(self, *, password: str = "drawn", now: float = NOW) -> ServerPlan:
        observed = ObservedServer(
            self.secrets, self.objects, self.pods, endings=self.endings, no_pods=self.no_pods, before=self.before, claims=self.claims,
            jobs=self.jobs, backups=self.backups,
            database_contents={name: dict.fromkeys(read, "content") for name, read in database_reads(self.spec).items()},
        )  # fmt: skip
        found = plan(self.spec, observed, password=password, now=now)
        self.backups = found.backups.status()
        self.before = {one.type: {"status": one.word, "reason": one.reason, "message": one.message} for one in found.conditions}
        self.writes = []
        for manifest in found.create:
            self.put(manifest)
        for key in found.delete:
            self.writes.append(f"-{key[0]}")
            if key[0] == "PersistentVolumeClaim":
                del self.claims[key[1]]
            else:
                del self.objects[key]
        for manifest in found.apply:
            if must_write(self.objects.get((manifest["kind"], manifest["metadata"]["name"])), manifest):
                self.put(manifest)
        return found

    def put(self, manifest: Any) -> None:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        self.writes.append(kind)
        self.objects[kind, name] = {**self.objects.get((kind, name), {}), **manifest}
        if kind == "Secret":
            self.secrets[name] = manifest

    def settle(self) -> None:
        """Everything gets ready, every Job completes."""
        for (kind, name), body in self.objects.items():
            if kind == "StatefulSet":
                self.objects[kind, name] = {**body, "status": {"readyReplicas": 1}}
            if kind == "Job" and "status" not in body:
                self.objects[kind, name] = {**body, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
            if kind == "Deployment":
                replicas = body["spec"]["replicas"]
                counts = dict.fromkeys(("replicas", "readyReplicas", "updatedReplicas"), replicas)
                self.objects[kind, name] = {**body, "status": counts}

    def ready(self) -> World:
        for _ in range(4):
            self.turn()
            self.settle()
        return self

    def fail_job(self, ended_at: str) -> None:
        for key in self.of("Job"):
            condition = {"type": "Failed", "status": "True", "lastTransitionTime": ended_at}
            self.objects[key] = {**self.objects[key], "status": {"conditions": [condition]}}

    def of(self, kind: str) -> list[tuple[str, str]]:
        return [key for key in self.objects if key[0] == kind]


def told(found: ServerPlan) -> dict[str, tuple[str, str]]:
    return {one.type: (one.word, one.reason) for one in found.conditions}

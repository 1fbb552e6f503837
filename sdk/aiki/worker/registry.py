"""The workflow versions that a worker carries, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiki.definitions.reach import refuse_two_of_one_name
from aiki.definitions.workflow import VersionDefinition, WorkflowDefinition
from aiki.protocol import EventSchema, WorkflowVersion
from aiki.values.twice import refuse
from aiki.worker.event_schemas import event_schemas

Carried = WorkflowDefinition | VersionDefinition[Any, Any]


class WorkflowRegistry:
    """Filled before the worker starts, which registers what there is, and closes it: what comes later would be carried by nobody."""

    def __init__(self, workflows: Iterable[Carried] = ()) -> None:
        self._versions: dict[tuple[str, str], VersionDefinition[Any, Any]] = {}
        self._closed = False
        self._events: list[EventSchema] | None = None
        for workflow in workflows:
            self.add(workflow)

    def add(self, workflow: Carried) -> None:
        """Carry a workflow with all its versions, or one version."""
        if self._closed:
            raise RuntimeError(
                f"{workflow!r} is added to a worker that has started: the server was told what it carries, and would send it no run of this. "
                "Add workflows before `start()` or `run()`, or stop the worker first"
            )
        versions = workflow.versions.values() if isinstance(workflow, WorkflowDefinition) else [workflow]
        if not versions:
            raise ValueError(f"{workflow.name} has no version yet: decorate its code with .v('1.0'), then add it")  # type: ignore[union-attr]  # only a workflow can lack versions
        for version in versions:
            known = self._versions.get((version.workflow, version.version), version)
            if known is not version and not version.origin.again(known.origin):
                refuse(version.called, known.origin, version.origin)
            refuse_two_of_one_name(version)
            self._versions[version.workflow, version.version] = version
            self._events = None

    def close(self) -> None:
        """Take nothing more, while the worker works."""
        self._closed = True

    def open(self) -> None:
        """Take workflows again: the worker has stopped."""
        self._closed = False

    def find(self, workflow: str, version: str) -> VersionDefinition[Any, Any] | None:
        """The definition, if it is carried."""
        return self._versions.get((workflow, version))

    def versions(self) -> list[WorkflowVersion]:
        """What to register."""
        return [WorkflowVersion(workflow=workflow, version=version) for workflow, version in sorted(self._versions)]

    def events(self) -> list[EventSchema]:
        """What to register of the events that the code of these versions names."""
        if self._events is None:
            self._events = event_schemas(version for _, version in sorted(self._versions.items(), key=lambda item: item[0]))
        return self._events

    def read_streams(self, streams: Iterable[str]) -> list[str]:
        """Of these streams, those of versions that are carried: others of the pool may carry other workflows."""
        carried = {f"{workflow}:{version}" for workflow, version in self._versions}
        return [stream for stream in streams if stream.partition("}:")[2].partition("@")[0] in carried]

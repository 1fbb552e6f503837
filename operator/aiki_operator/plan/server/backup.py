"""The backups of a managed Postgres: what has to be there for them, and what is to be said of them.

How a backup went is known from the pods of its Jobs. They do not stay for ever, so the status of the AikiServer keeps what
they said last: the latest success with the earliest point that can be restored to, and the latest failure with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from aiki_operator.manifests.databases import backup as manifests
from aiki_operator.manifests.pods.quantity import quantity
from aiki_operator.plan.pods import Pod, PodProblem, worst
from aiki_operator.plan.server import cron
from aiki_operator.plan.server.migration import ContainerEnding
from aiki_operator.reporting.conditions import Condition
from aiki_operator.spec.backups import S3, Backup, Volume
from aiki_operator.spec.server import ManagedDatabase, ServerSpec

Json = Mapping[str, Any]
Key = tuple[str, str]
PATIENCE_SECONDS = 3600.0
"""So long after its time a backup may still be under way before it is called overdue."""


@dataclass(frozen=True, slots=True)
class BackupStatus:
    """What the status says of the backups; instants in Unix seconds."""

    success_at: float | None = None
    oldest_at: float | None = None
    bytes: int | None = None
    failure_at: float | None = None
    failure: str = ""
    store: str = ""

    @classmethod
    def of(cls, status: Json, backup: Backup | None) -> BackupStatus:
        """From the status as it is. What was said of another store is no more."""
        store = "" if backup is None else place(backup.store)
        if status.get("store") != store:
            return cls(store=store)
        return cls(
            _instant(status.get("lastSuccessAt")),
            _instant(status.get("oldestRestorableAt")),
            status.get("bytes"),
            _instant(status.get("lastFailureAt")),
            status.get("lastFailure", ""),
            store,
        )

    def with_endings(self, endings: Sequence[ContainerEnding]) -> BackupStatus:
        """With what the pods of Jobs have said since."""
        found = self
        for one in sorted(endings, key=lambda ending: ending.at):
            if one.code == 0 and one.at > (found.success_at or 0.0):
                found = found._succeeded(one)
            elif one.code != 0 and one.at > (found.failure_at or 0.0):
                found = replace(found, failure_at=one.at, failure=one.said)
        return found

    def status(self) -> dict[str, Any]:
        """As the status has it."""
        found = {
            "store": self.store,
            "lastSuccessAt": _text(self.success_at),
            "oldestRestorableAt": _text(self.oldest_at),
            "bytes": self.bytes,
            "lastFailureAt": _text(self.failure_at),
            "lastFailure": self.failure[:500],
        }
        return {name: value for name, value in found.items() if value not in (None, "")}

    def _succeeded(self, ending: ContainerEnding) -> BackupStatus:
        said = _report(ending.report)
        oldest = said.get("oldest")
        return replace(self, success_at=ending.at, oldest_at=self.oldest_at if oldest is None else float(oldest), bytes=said.get("bytes"))


def place(store: Volume | S3) -> str:
    """A store, for people."""
    return f"s3://{store.endpoint}/{store.bucket}/{store.prefix}" if isinstance(store, S3) else "volume"


def wanted(spec: ServerSpec) -> Backup | None:
    """The backups that a spec asks for."""
    return spec.database.backup if isinstance(spec.database, ManagedDatabase) else None


def secret_names(spec: ServerSpec) -> tuple[str, ...]:
    """The Secrets of the store, to read before planning."""
    backup = wanted(spec)
    if backup is None or not isinstance(backup.store, S3):
        return ()
    return (backup.store.credentials[0], *((backup.store.authority[0],) if backup.store.authority else ()))


def claim_names(spec: ServerSpec) -> tuple[str, ...]:
    """The claim of the store, to read before planning."""
    backup = wanted(spec)
    return (manifests.claim_name(spec.owner),) if backup is not None and isinstance(backup.store, Volume) else ()


def store(spec: ServerSpec, claims: Mapping[str, Json]) -> Iterator[Json]:
    """The claim of the store, which must be there before Postgres: if there is none, or if it is to grow."""
    backup = wanted(spec)
    if backup is None or not isinstance(backup.store, Volume):
        return
    there = claims.get(manifests.claim_name(spec.owner))
    if there is None:
        yield manifests.claim(spec.owner, backup.store)
        return
    asked, size = quantity(there["spec"].get("resources", {}).get("requests", {}).get("storage")), quantity(backup.store.size)
    if asked is not None and size is not None and size > asked:
        yield manifests.claim(spec.owner, backup.store)


def asking(spec: ServerSpec, database: Condition, told: BackupStatus) -> Iterator[Json]:
    """What asks for backups: the CronJob, and the Job of the first one once there is a database."""
    backup = wanted(spec)
    if backup is None or not isinstance(spec.database, ManagedDatabase):
        return
    yield manifests.cron_job(spec.owner, spec.database, backup)
    if database.status and told.success_at is None:
        yield manifests.first(spec.owner, spec.database, backup)


def unwanted(spec: ServerSpec, objects: Mapping[Key, Json]) -> Iterator[Key]:
    """The CronJob of backups that are not asked for any more."""
    key = ("CronJob", manifests.cron_job_name(spec.owner))
    if wanted(spec) is None and key in objects:
        yield key


def condition(
    spec: ServerSpec,
    told: BackupStatus,
    *,
    secrets: Mapping[str, Json],
    pods: Mapping[str, tuple[Pod, ...]],
    trouble: PodProblem | None,
    now: float,
) -> Condition | None:
    """Whether the database could be restored as it should be."""
    backup = wanted(spec)
    if backup is None:
        return None
    if (absent := _absent(backup, secrets)) is not None:
        return Condition("BackupReady", False, "SecretNotFound", absent)
    if (told.failure_at or 0.0) > (told.success_at or 0.0):
        return Condition("BackupReady", False, "BackupFailed", f"the last backup ended {told.failure}")
    found = trouble or worst(pods.get("backup", ()))
    if found is not None and found.lasting:
        return Condition("BackupReady", False, found.reason, f"a backup does not start: {found.message}")
    if told.success_at is None:
        return Condition("BackupReady", None, "FirstBackup", "the first backup is not done yet")
    due = cron.last(backup.schedule, datetime.fromtimestamp(now - PATIENCE_SECONDS, UTC))
    if due is not None and told.success_at < due.timestamp():
        words = (
            f"the backup of {due:%Y-%m-%d %H:%M} UTC is not done; see `kubectl get jobs` and CronJob {manifests.cron_job_name(spec.owner)}"
        )
        return Condition("BackupReady", False, "BackupOverdue", words)
    since = "" if told.oldest_at is None else f", from {_text(told.oldest_at)} on"
    return Condition(
        "BackupReady", True, "BackedUp", f"the database can be restored{since}; the last backup is of {_text(told.success_at)}"
    )


def _absent(backup: Backup, secrets: Mapping[str, Json]) -> str | None:
    """What is missing of the Secrets of the store."""
    if not isinstance(backup.store, S3):
        return None
    name, access, key = backup.store.credentials
    wanted_keys = [(name, access), (name, key), *([backup.store.authority] if backup.store.authority else [])]
    for secret, member in wanted_keys:
        if member not in (secrets.get(secret, {}).get("data") or {}):
            return (
                f"Secret {secret} of this namespace with the key {member} does not exist, so nothing can be written to the store: create it"
            )
    return None


def _report(words: str) -> Json:
    try:
        found = json.loads(words)
    except json.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _instant(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _text(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

"""What users ask for of the managed Postgres's backups: when, for how long, into which store; and from which one to restore."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Volume:
    """A store that is a volume of its own, made with the AikiServer."""

    size: str
    storage_class: str | None
    kept: bool
    """Whether it stays when the AikiServer is deleted."""


@dataclass(frozen=True, slots=True)
class BackupClaim:
    """A store that is another AikiServer's volume: the name of its claim."""

    name: str


@dataclass(frozen=True, slots=True)
class S3:
    """A store that speaks S3. `credentials` and `authority` are a Secret's name and keys in it."""

    endpoint: str
    bucket: str
    prefix: str
    region: str
    path_style: bool
    credentials: tuple[str, str, str]
    authority: tuple[str, str] | None
    """The certificates that the endpoint's is checked against; None for those of the image."""


@dataclass(frozen=True, slots=True)
class Backup:
    """When the managed Postgres is backed up, and how far back it can be restored to."""

    schedule: str
    days: int
    store: Volume | S3
    resources: Json


@dataclass(frozen=True, slots=True)
class Restore:
    """What a new managed Postgres begins with; `time` None is the end of what is in the store."""

    store: BackupClaim | S3
    time: datetime | None


def parse_backup(backup: Json | None) -> Backup | None:
    """The backups of a spec, where it asks for any."""
    if backup is None:
        return None
    volume = backup.get("volume", {})
    kept = volume.get("deletionPolicy", "Retain") == "Retain"
    return Backup(
        schedule=" ".join(str(backup.get("schedule", "0 3 * * *")).split()),
        days=backup.get("retention", {}).get("days", 14),
        store=_s3(backup["s3"]) if "s3" in backup else Volume(volume.get("size", "20Gi"), volume.get("className"), kept),
        resources=backup.get("resources", {}),
    )


def parse_restore(restore: Json | None) -> Restore | None:
    """The restore of a spec, where it asks for one."""
    if restore is None:
        return None
    time = datetime.fromisoformat(restore["time"]).astimezone(UTC) if "time" in restore else None
    store = _s3(restore["s3"]) if "s3" in restore else BackupClaim(restore["volume"]["claimName"])
    return Restore(store, time)


def _s3(s3: Json) -> S3:
    credentials, authority = s3["credentialsSecretRef"], s3.get("caSecretRef")
    return S3(
        endpoint=s3["endpoint"],
        bucket=s3["bucket"],
        prefix=s3["prefix"].strip("/"),
        region=s3.get("region", "us-east-1"),
        path_style=s3.get("pathStyle", False),
        credentials=(
            credentials["name"],
            credentials.get("accessKeyId", "accessKeyId"),
            credentials.get("secretAccessKey", "secretAccessKey"),
        ),
        authority=None if authority is None else (authority["name"], authority.get("key", "ca.crt")),
    )

"""How pgBackRest is told where the database and its store are: by variables, so that there is no file of ours in any image.

Whatever runs pgBackRest in a pod is given the same variables and mounts: Postgres, which archives each segment of its log
and runs the backups; and the Job that restores. The parts of an S3 store's Secret are optional to Kubernetes, because a
database must start although somebody has taken its backup's credentials away; the condition BackupReady says so.
"""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.pods.pod import env_value
from aiki_operator.spec.backups import S3, Backup, BackupClaim, Volume

STANZA = "aiki"
"""What pgBackRest calls a database in a store; a store of ours has one."""
REPOSITORY = "/var/lib/pgbackrest"
AUTHORITY = "/etc/aiki/backup"
SOCKET = "/var/run/postgresql"
COMMON = {
    "STANZA": STANZA,
    "LOG_LEVEL_FILE": "off",
    "LOG_LEVEL_CONSOLE": "warn",
    "LOG_TIMESTAMP": "n",
    "LOCK_PATH": "/tmp/pgbackrest",  # noqa: S108 - an emptyDir of the pod's own
    "COMPRESS_TYPE": "zst",
    "PG1_USER": "postgres",
    "PG1_SOCKET_PATH": SOCKET,
}


def variables(store: Volume | BackupClaim | S3, *, data: str) -> list[dict[str, Any]]:
    """Where the store and the data directory are."""
    found = [env_value(f"PGBACKREST_{name}", value) for name, value in {**COMMON, "PG1_PATH": data}.items()]
    if not isinstance(store, S3):
        return [*found, env_value("PGBACKREST_REPO1_PATH", REPOSITORY)]
    secret, access, key = store.credentials
    plain = {
        "TYPE": "s3",
        "PATH": f"/{store.prefix}",
        "S3_ENDPOINT": store.endpoint,
        "S3_BUCKET": store.bucket,
        "S3_REGION": store.region,
        "S3_URI_STYLE": "path" if store.path_style else "host",
        **({"STORAGE_CA_FILE": f"{AUTHORITY}/ca.crt"} if store.authority else {}),
    }
    found += [env_value(f"PGBACKREST_REPO1_{name}", value) for name, value in plain.items()]
    return [*found, _optional("PGBACKREST_REPO1_S3_KEY", secret, access), _optional("PGBACKREST_REPO1_S3_KEY_SECRET", secret, key)]


def retention(backup: Backup) -> list[dict[str, Any]]:
    """For how long backups are kept: until all of the time that can be asked for lies behind a younger one."""
    return [
        env_value("PGBACKREST_REPO1_RETENTION_FULL_TYPE", "time"),
        env_value("PGBACKREST_REPO1_RETENTION_FULL", str(backup.days)),
        env_value("PGBACKREST_START_FAST", "y"),
    ]


def mounts(store: Volume | BackupClaim | S3) -> list[dict[str, Any]]:
    """Where a container has the store, or the certificates for it; another server's store is read and never written."""
    if not isinstance(store, S3):
        return [{"name": "backup", "mountPath": REPOSITORY, **({"readOnly": True} if isinstance(store, BackupClaim) else {})}]
    return [{"name": "backup-ca", "mountPath": AUTHORITY, "readOnly": True}] if store.authority else []


def volumes(store: Volume | BackupClaim | S3, *, claim: str) -> list[dict[str, Any]]:
    """The volumes of a pod for these mounts; `claim` is that of a server's own store."""
    if isinstance(store, S3):
        if store.authority is None:
            return []
        name, key = store.authority
        return [{"name": "backup-ca", "secret": {"secretName": name, "optional": True, "items": [{"key": key, "path": "ca.crt"}]}}]
    source: dict[str, Any] = {"claimName": store.name, "readOnly": True} if isinstance(store, BackupClaim) else {"claimName": claim}
    return [{"name": "backup", "persistentVolumeClaim": source}]


def _optional(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}

"""The managed Postgres's backups: what its pod has for them, the volume they go to, the CronJob that asks for them.

pgBackRest has to run where the data directory is, so Postgres itself runs it: the init container writes the function
`aiki_backup.run` into the database `postgres`, and whoever calls it waits for a backup and is told what became of it. So a
backup is a statement. The CronJob's pod sends it as the role `aiki`, needs no right in Kubernetes and mounts no volume, and
its exit code and last words are the outcome. The function takes no argument: it is all that the role can do with the store.
"""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.databases import pgbackrest
from aiki_operator.manifests.pods.merge import merge
from aiki_operator.manifests.pods.pod import DATABASE_USER, TMP_MOUNT, env_secret, env_value, meta, pod_template
from aiki_operator.manifests.pods.resources import BACKUP, resources
from aiki_operator.names import digest, labels, outliving
from aiki_operator.spec.backups import Backup, Volume
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.placement import around
from aiki_operator.spec.server import ManagedDatabase

ARCHIVE_SECONDS = 60
"""Postgres hands on its log after this long at the latest: so much is lost with the volume."""
RETRY_SECONDS = 3600
"""A first backup that has failed for good is tried again after this long: its Job goes, and another one is made."""
CONTAINER = "backup"

RUN = r"""
create or replace function aiki_backup.run() returns jsonb language plpgsql security definer set search_path = pg_catalog, pg_temp as $body$
declare said text; found jsonb;
begin
begin
lock table aiki_backup.said in exclusive mode nowait;
exception when lock_not_available then raise exception 'another backup is running';
end;
delete from aiki_backup.said;
copy aiki_backup.said (line) from program '{ pgbackrest stanza-create && pgbackrest --type=full backup; } 2>&1 || echo failed' with (format csv, delimiter e'\x01', quote e'\x02', escape e'\x02');
if exists (select from aiki_backup.said where line = 'failed') then
select string_agg(trim(line), '; ' order by number) into said from aiki_backup.said where line <> 'failed' and line !~ ' WARN: ';
raise exception '%', left(regexp_replace(coalesce(said, 'pgBackRest gives no reason'), 'P\d+ +ERROR: ', '', 'g'), 800);
end if;
delete from aiki_backup.said;
copy aiki_backup.said (line) from program 'pgbackrest --output=json info' with (format csv, delimiter e'\x01', quote e'\x02', escape e'\x02');
select string_agg(line, '' order by number)::jsonb -> 0 -> 'backup' into found from aiki_backup.said;
delete from aiki_backup.said;
return (select jsonb_build_object('at', max(stop), 'oldest', min(stop) + 1, 'backups', count(*), 'bytes', sum(bytes)) from (select (one -> 'timestamp' ->> 'stop')::bigint as stop, (one -> 'info' -> 'repository' ->> 'delta')::bigint as bytes from jsonb_array_elements(found) as one) as backups);
end
$body$
"""
"""Tables and functions are named with their schemas, because whoever calls it may have made others of the same names. Kubernetes makes one `$` of two, so the quotes have a name."""

SCHEMA = (
    "create schema if not exists aiki_backup",
    "create table if not exists aiki_backup.said (number bigint generated always as identity, line text)",
    " ".join(RUN.split("\n")).strip(),
    "revoke all on function aiki_backup.run() from public",
    "grant usage on schema aiki_backup to aiki",
    "grant execute on function aiki_backup.run() to aiki",
)
"""One statement a line is what single-user mode reads."""

PREPARE = (
    "\nsingle \"$PGDATA\" <<'STATEMENTS'\n"
    + "\n".join(SCHEMA)
    + r"""
STATEMENTS
timeout 20 pgbackrest --no-online stanza-create || echo "the store of the backups is not ready, so Postgres starts without it" >&2
"""
)
"""What the init container does besides. A store that does not answer keeps no database from starting: archiving tries again."""

ASK = r"""
set -euo pipefail
# A network that enforces policies lets a new pod through a moment later.
for _ in {1..60}; do
    pg_isready --quiet --timeout=5 && break
    sleep 1
done
said=$(psql --no-psqlrc --quiet --tuples-only --no-align --set=VERBOSITY=terse \
    --dbname='dbname=postgres connect_timeout=30 keepalives_idle=60' --command='select aiki_backup.run()')
printf '%s\n' "$said" | tee /dev/termination-log
"""


def claim_name(owner: Owner) -> str:
    """The claim of the volume that backups go to."""
    return f"{owner.name}-postgres-backup"


def cron_job_name(owner: Owner) -> str:
    """The CronJob; `kubectl create job --from=cronjob/<name>` takes a backup now."""
    return f"{owner.name}-postgres-backup"


def first_name(owner: Owner, backup: Backup) -> str:
    """The Job of the first backup into a store, which nobody wants to wait for until the night."""
    return f"{owner.name}-postgres-backup-{digest([repr(backup.store)], length=8)}"


def arguments() -> list[str]:
    """What Postgres is started with."""
    settings = {"archive_mode": "on", "archive_command": "pgbackrest archive-push %p", "archive_timeout": str(ARCHIVE_SECONDS)}
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def environment(backup: Backup, *, data: str) -> list[dict[str, Any]]:
    """What Postgres's container, and the one before it, are told."""
    return [*pgbackrest.variables(backup.store, data=data), *pgbackrest.retention(backup)]


def claim(owner: Owner, store: Volume, *, size: str | None = None) -> dict[str, Any]:
    """The claim of the volume. Without an owner it stays when the AikiServer is deleted, as the data do."""
    spec: dict[str, Any] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size or store.size}}}
    if store.storage_class is not None:
        spec["storageClassName"] = store.storage_class
    marks = outliving(labels("backup", instance=owner.name, server=owner.name))
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta(owner, claim_name(owner), marks, owned=not store.kept),
        "spec": spec,
    }


def cron_job(owner: Owner, wanted: ManagedDatabase, backup: Backup) -> dict[str, Any]:
    """Asks for backups by the clock, in UTC."""
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": meta(owner, cron_job_name(owner), labels("backup", instance=owner.name, server=owner.name)),
        "spec": {
            "schedule": backup.schedule,
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1,
            "jobTemplate": {
                "metadata": {"labels": labels("backup", instance=owner.name, server=owner.name)},
                "spec": _job(owner, wanted, backup),
            },
        },
    }


def first(owner: Owner, wanted: ManagedDatabase, backup: Backup) -> dict[str, Any]:
    """The first backup into a store."""
    marks = labels("backup", instance=owner.name, server=owner.name)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(owner, first_name(owner, backup), marks),
        "spec": {**_job(owner, wanted, backup), "ttlSecondsAfterFinished": RETRY_SECONDS},
    }


def _job(owner: Owner, wanted: ManagedDatabase, backup: Backup) -> dict[str, Any]:
    marks = labels("backup", instance=owner.name, server=owner.name)
    place = f"{owner.name}-postgres"
    container = {
        "name": CONTAINER,
        "image": wanted.image,
        "command": ["bash", "-c", ASK],
        "env": [env_value("PGHOST", place), env_value("PGUSER", "aiki"), env_secret("PGPASSWORD", place, "password")],
        "volumeMounts": [TMP_MOUNT],
        "resources": resources(backup.resources, BACKUP),
    }
    pod = pod_template(marks, container, template=around(wanted.template), user=DATABASE_USER)
    return {"backoffLimit": 2, "activeDeadlineSeconds": 86400, "template": merge(pod, {"spec": {"restartPolicy": "Never"}})}

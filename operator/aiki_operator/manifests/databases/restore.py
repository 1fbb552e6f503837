"""The Job that fills a new managed Postgres's volume from a store, before there is a Postgres.

It does what the pod's init container does, and with the same care: the data directory is made beside its place, brought
to the wanted point in time there, and moved when it is whole, so a Job that is killed in the middle begins again. A data
directory that is there is never touched. The one that this very restore has made is known by a file beside it.
"""

from __future__ import annotations

from typing import Any

from aiki_operator.manifests.databases import pgbackrest
from aiki_operator.manifests.pods.merge import merge
from aiki_operator.manifests.pods.pod import DATABASE_USER, TMP_MOUNT, env_value, meta, pod_template
from aiki_operator.manifests.pods.resources import POSTGRES, resources
from aiki_operator.names import digest, labels
from aiki_operator.spec.backups import Restore
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.placement import around
from aiki_operator.spec.server import ManagedDatabase

CONTAINER = "restore"

SCRIPT = r"""
set -euo pipefail
umask 077
beside=${PGDATA%/*}

refuse() { echo "$1" >&2; exit 1; }

if [ -s "$PGDATA/PG_VERSION" ]; then
    [ "$(cat "$beside/restored" 2>/dev/null)" = "$AIKI_RESTORE" ] && exit 0
    refuse "the volume holds a database, and a restore never overwrites one: give the AikiServer another name, or take restoreFrom out"
fi
[ -z "$(ls -A "$PGDATA" 2>/dev/null)" ] || refuse "$PGDATA is not empty and holds no Postgres: give the AikiServer another volume"
command -v pgbackrest >/dev/null || refuse "the image has no pgBackRest: leave database.managed.image out, or name one that has"

rm -rf "$PGDATA.part" "$PGDATA"
mkdir -m 700 "$PGDATA.part"
target=(--type=default)
[ -z "$AIKI_RESTORE_TIME" ] || target=(--type=time "--target=$AIKI_RESTORE_TIME" --target-action=promote)
pgbackrest "${target[@]}" --recovery-option=restore_command="pgbackrest archive-get %f %p" restore

# Until it is ready for writing: pg_ctl would be content with a Postgres that has only begun to recover.
log=/tmp/recovery.log
postgres -D "$PGDATA.part" -c listen_addresses= -c unix_socket_directories=/tmp -c hot_standby=off -c archive_mode=off >"$log" 2>&1 &
server=$!
until [ "$(sed -n '8s/ *$//p' "$PGDATA.part/postmaster.pid" 2>/dev/null)" = ready ]; do
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$log" >&2
        reached=$(sed -n 's/.*last completed transaction was at log time //p' "$log" | tail -n 1)
        if grep -q 'before configured recovery target was reached' "$log"; then
            refuse "the store's log ends before $AIKI_RESTORE_TIME: the last change in it is of ${reached:-the backup itself}; ask for an earlier time, or leave it out"
        fi
        refuse "Postgres does not recover: $(grep -E 'FATAL|PANIC' "$log" | tail -n 1)"
    fi
    sleep 0.2
done
kill -INT "$server"
wait "$server" || refuse "Postgres does not stop after the recovery: $(tail -n 1 "$log")"
sed -i '/^restore_command\|^recovery_target/d' "$PGDATA.part/postgresql.auto.conf"
printf '%s\n' "$AIKI_RESTORE" >"$beside/restored"
mv "$PGDATA.part" "$PGDATA"
sync
"""
"""Where the store is comes from pgBackRest's own variables. pgBackRest reads the time as Postgres writes it."""


def mark(restore: Restore) -> str:
    """What a restore is known by: a store and a point in time."""
    return digest([repr(restore.store), repr(restore.time)])


def job_name(owner: Owner, restore: Restore) -> str:
    """One Job for each restore: done once, never again."""
    return f"{owner.name}-restore-{mark(restore)[:8]}"


def job(owner: Owner, wanted: ManagedDatabase, restore: Restore, *, data_claim: str, data: str) -> dict[str, Any]:
    """Fills the volume of `data_claim`, whose data directory is to be `data`."""
    marks = labels("restore", instance=owner.name, server=owner.name)
    time = "" if restore.time is None else restore.time.strftime("%Y-%m-%d %H:%M:%S.%f+00")
    container = {
        "name": CONTAINER,
        "image": wanted.image,
        "command": ["bash", "-c", SCRIPT],
        "env": [
            env_value("PGDATA", data),
            env_value("AIKI_RESTORE", mark(restore)),
            env_value("AIKI_RESTORE_TIME", time),
            *pgbackrest.variables(restore.store, data=f"{data}.part"),
        ],
        "volumeMounts": [{"name": "data", "mountPath": data.rpartition("/")[0]}, TMP_MOUNT, *pgbackrest.mounts(restore.store)],
        "resources": resources(wanted.resources, POSTGRES),
    }
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": data_claim}}, *pgbackrest.volumes(restore.store, claim="")]
    pod = pod_template(marks, container, template=around(wanted.template), user=DATABASE_USER, volumes=volumes)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta(owner, job_name(owner, restore), marks),
        "spec": {"backoffLimit": 2, "activeDeadlineSeconds": 86400, "template": merge(pod, {"spec": {"restartPolicy": "Never"}})},
    }

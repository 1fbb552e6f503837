"""Backups and restores of the managed Postgres: what is made for them, in which order, and what is said of them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiki_operator.manifests.databases import backup as manifests
from aiki_operator.manifests.databases import restore as restores
from aiki_operator.manifests.network import job_names
from aiki_operator.plan.pods import PodProblem
from aiki_operator.plan.server import cron
from aiki_operator.plan.server.backup import PATIENCE_SECONDS, BackupStatus, condition
from aiki_operator.plan.server.migration import ContainerEnding
from aiki_operator.plan.server.restore import Restoring
from aiki_operator.reporting.conditions import Condition, turns
from aiki_operator.spec.server import ManagedDatabase, ServerSpec, parse_server
from support.operator.objects import crash, pod, server_body
from support.operator.world import World, told

NOW = datetime(2026, 1, 7, 12, 0, tzinfo=UTC).timestamp()
S3 = {"endpoint": "s3.example.com", "bucket": "kept", "prefix": "shop/aiki/", "credentialsSecretRef": {"name": "store"}}
TOOL = "example.com/aiki-postgres:1"


def managed(**more: Any) -> dict[str, Any]:
    return {"type": "Managed", "managed": more}


def spec_of(**more: Any) -> ServerSpec:
    return parse_server(server_body(database=managed(**more)), default_image="i", postgres_image=TOOL)


def statefulset(world: World) -> Any:
    return world.objects["StatefulSet", "aiki-postgres"]["spec"]["template"]["spec"]


def variables(container: Any) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def done(report: object = None, *, at: float = NOW, code: int = 0) -> ContainerEnding:
    return ContainerEnding("j", code, "with exit code 1 (Error): no route", at, held=False, report=json.dumps(report) if report else "")


# ---- backups ------------------------------------------------------------------------------------------------------


def test_postgres_without_backups_is_as_it_was() -> None:
    world = World(database=managed()).ready()
    pod = statefulset(world)
    assert [container["image"] for container in (*pod["initContainers"], *pod["containers"])] == ["postgres:17"] * 2
    assert "PGBACKREST" not in json.dumps(pod)
    assert {one["name"] for one in pod["volumes"]} == {"tmp", "run"}
    assert world.of("CronJob") == []


def test_a_volume_is_made_before_postgres_that_archives_into_it() -> None:
    world = World(database=managed(backup={"volume": {"size": "5Gi", "className": "slow"}}))
    world.turn()
    assert world.writes.index("PersistentVolumeClaim") < world.writes.index("StatefulSet")
    claim = world.objects["PersistentVolumeClaim", "aiki-postgres-backup"]
    assert claim["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}, "storageClassName": "slow"}
    assert "ownerReferences" not in claim["metadata"]
    assert "app.kubernetes.io/instance" not in claim["metadata"]["labels"]
    world.ready()
    pod = statefulset(world)
    assert {container["image"] for container in (*pod["initContainers"], *pod["containers"])} == {"example.com/aiki-postgres:1"}
    assert "archive_command=pgbackrest archive-push %p" in pod["containers"][0]["args"]
    assert {"name": "backup", "persistentVolumeClaim": {"claimName": "aiki-postgres-backup"}} in pod["volumes"]
    for container in (*pod["initContainers"], *pod["containers"]):
        assert {"name": "backup", "mountPath": "/var/lib/pgbackrest"} in container["volumeMounts"]
        assert variables(container)["PGBACKREST_REPO1_RETENTION_FULL"] == "14"


def test_an_image_of_ones_own_is_taken_as_it_is() -> None:
    world = World(database=managed(image="registry.internal/postgres:17", backup={"volume": {}})).ready()
    assert statefulset(world)["containers"][0]["image"] == "registry.internal/postgres:17"


@pytest.mark.parametrize(("policy", "owned"), [("Retain", False), ("Delete", True)])
def test_the_volume_of_the_backups_stays_unless_it_is_to_go(policy: str, owned: bool) -> None:
    world = World(database=managed(backup={"volume": {"deletionPolicy": policy}}))
    world.turn()
    assert ("ownerReferences" in world.objects["PersistentVolumeClaim", "aiki-postgres-backup"]["metadata"]) is owned


def test_the_volume_of_the_backups_grows_and_never_shrinks() -> None:
    world = World(database=managed(backup={"volume": {"size": "20Gi"}}))
    for asked, written in (("10Gi", ["20Gi"]), ("20Gi", []), ("30Gi", [])):
        world.claims["aiki-postgres-backup"] = {"spec": {"resources": {"requests": {"storage": asked}}}}
        claims = [one for one in world.turn().apply if one["kind"] == "PersistentVolumeClaim"]
        assert [one["spec"]["resources"]["requests"]["storage"] for one in claims] == written


def test_an_s3_store_is_told_by_variables_whose_secrets_may_be_missing() -> None:
    authority = {"caSecretRef": {"name": "store-ca"}, "pathStyle": True, "region": "eu-1"}
    world = World(database=managed(backup={"s3": {**S3, **authority}})).ready()
    pod = statefulset(world)
    for container in (*pod["initContainers"], *pod["containers"]):
        found = variables(container)
        assert found["PGBACKREST_REPO1_TYPE"] == "s3"
        assert found["PGBACKREST_REPO1_PATH"] == "/shop/aiki"
        assert (found["PGBACKREST_REPO1_S3_URI_STYLE"], found["PGBACKREST_REPO1_S3_REGION"]) == ("path", "eu-1")
        assert found["PGBACKREST_REPO1_STORAGE_CA_FILE"] == "/etc/aiki/backup/ca.crt"
        assert found["PGBACKREST_REPO1_S3_KEY"] == {"secretKeyRef": {"name": "store", "key": "accessKeyId", "optional": True}}
        assert found["PGBACKREST_REPO1_S3_KEY_SECRET"] == {"secretKeyRef": {"name": "store", "key": "secretAccessKey", "optional": True}}
    authority_volume = {"secretName": "store-ca", "optional": True, "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    assert {"name": "backup-ca", "secret": authority_volume} in pod["volumes"]
    assert world.of("PersistentVolumeClaim") == []


def test_the_clock_asks_for_backups_and_the_first_is_taken_at_once() -> None:
    world = World(database=managed(backup={"volume": {}, "schedule": "*/5  * * * *"})).ready()
    cron_job = world.objects["CronJob", "aiki-postgres-backup"]["spec"]
    assert (cron_job["schedule"], cron_job["timeZone"], cron_job["concurrencyPolicy"]) == ("*/5 * * * *", "Etc/UTC", "Forbid")
    (first,) = [name for kind, name in world.of("Job") if "-postgres-backup-" in name]
    for job in (cron_job["jobTemplate"]["spec"], world.objects["Job", first]["spec"]):
        (container,) = job["template"]["spec"]["containers"]
        assert {"requests", "limits"} <= container["resources"].keys()
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    world.jobs["backup"] = (done({"at": 1, "oldest": 1_000_000, "bytes": 77}),)
    found = world.turn()
    assert tuple(found.backups.status()[name] for name in ("oldestRestorableAt", "bytes")) == ("1970-01-12T13:46:40Z", 77)
    assert not [one for one in found.apply if one["kind"] == "Job" and "-postgres-backup-" in one["metadata"]["name"]]
    assert ("Job", first) in world.objects, "the migration's own clearing up must not take the backup's Job"


def test_what_was_asked_for_goes_with_the_asking() -> None:
    world = World(database=managed(backup={"volume": {}})).ready()
    world.spec = parse_server(server_body(database=managed()), default_image=world.spec.image)
    world.ready()
    assert world.of("CronJob") == []
    assert not [name for kind, name in world.of("NetworkPolicy") if name in job_names(world.spec.owner)]
    assert statefulset(world)["containers"][0]["image"] == "postgres:17"
    assert world.of("PersistentVolumeClaim"), "backups are never deleted by taking a field away"


def test_jobs_that_ask_reach_postgres_and_nobody_reaches_them() -> None:
    world = World(database=managed(backup={"volume": {}})).ready()
    (rule,) = world.objects["NetworkPolicy", "aiki-postgres"]["spec"]["ingress"]
    assert "backup" in rule["from"][0]["podSelector"]["matchExpressions"][0]["values"]
    assert world.objects["NetworkPolicy", "aiki-backup"]["spec"]["ingress"] == []


# ---- what is said of them -----------------------------------------------------------------------------------------


def said(
    told_: BackupStatus, *, trouble: PodProblem | None = None, pods: Any = None, secrets: Any = None, now: float = NOW, **backup: Any
) -> tuple[str, str]:
    spec = spec_of(backup={"volume": {}, **backup} if "s3" not in backup else backup)
    found = condition(spec, told_, secrets=secrets or {}, pods=pods or {}, trouble=trouble, now=now)
    assert found is not None
    return found.word, found.reason


def test_each_outcome_has_a_word() -> None:
    good = BackupStatus(success_at=NOW - 60, oldest_at=NOW - 1000)
    assert said(BackupStatus()) == ("Unknown", "FirstBackup")
    assert said(good) == ("True", "BackedUp")
    assert said(good.with_endings([done(code=1)])) == ("False", "BackupFailed")
    assert said(good.with_endings([done(code=1, at=NOW - 120)])) == ("True", "BackedUp")
    assert said(BackupStatus(), trouble=PodProblem("PodsRefused", "exceeded quota", lasting=True)) == ("False", "PodsRefused")
    assert said(BackupStatus(), pods={"backup": (pod("b", ready=False, trouble=crash("ImagePullFailed")),)}) == ("False", "ImagePullFailed")
    assert said(good, s3=S3) == ("False", "SecretNotFound")
    assert said(good, s3=S3, secrets={"store": {"data": {"accessKeyId": "eA==", "secretAccessKey": "eA=="}}}) == ("True", "BackedUp")


def test_a_backup_is_overdue_once_its_time_and_some_patience_are_over() -> None:
    due = datetime(2026, 1, 7, 3, 0, tzinfo=UTC).timestamp()
    before = BackupStatus(success_at=due - 100)
    assert said(before, now=due + PATIENCE_SECONDS - 1) == ("True", "BackedUp")
    assert said(before, now=due + PATIENCE_SECONDS + 1) == ("False", "BackupOverdue")
    assert said(replace(before, success_at=due + 5), now=due + PATIENCE_SECONDS + 1) == ("True", "BackedUp")


def test_the_status_keeps_what_pods_said_that_are_gone() -> None:
    spec = spec_of(backup={"volume": {}})
    assert isinstance(spec.database, ManagedDatabase)
    assert spec.database.backup is not None
    first = BackupStatus.of({}, spec.database.backup).with_endings([done({"oldest": 1_000_000, "bytes": 5}), done(code=1, at=NOW + 1)])
    again = BackupStatus.of(first.status(), spec.database.backup)
    assert again == first
    assert again.status()["lastFailure"] == "with exit code 1 (Error): no route"
    elsewhere = spec_of(backup={"s3": S3}).database
    assert isinstance(elsewhere, ManagedDatabase)
    assert BackupStatus.of(first.status(), elsewhere.backup).success_at is None


def test_trouble_with_backups_is_an_event_and_leaves_the_server_ready() -> None:
    world = World(database=managed(backup={"volume": {}})).ready()
    world.jobs["backup"] = (done(code=1),)
    found = world.turn()
    assert told(found)["Ready"] == ("True", "Ready")
    assert told(found)["BackupReady"] == ("False", "BackupFailed")
    failed = Condition("BackupReady", False, "BackupFailed", "no route")
    ready = Condition("Ready", True, "Ready", "")
    good = {"type": "BackupReady", "status": "True", "reason": "BackedUp"}
    (notice,) = turns([good], [ready, failed])
    assert (notice.reason, notice.warning) == ("BackupFailed", True)
    assert turns([{**good, "status": "False", "reason": "BackupFailed"}], [ready, failed]) == []
    (over,) = turns([{**good, "status": "False", "reason": "BackupFailed"}], [ready, replace(failed, status=True, reason="BackedUp")])
    assert over.warning is False


# ---- restores -----------------------------------------------------------------------------------------------------

RESTORE = {"volume": {"claimName": "old-postgres-backup"}, "time": "2026-01-07T11:00:00+02:00"}


def restoring(world: World, part: str) -> str:
    (name,) = [name for _, name in world.of("Job") if f"-{part}-" in name]
    return name


def test_a_restore_fills_the_volume_then_fences_then_the_server_starts() -> None:
    world = World(database=managed(restoreFrom=RESTORE))
    found = world.turn()
    assert ("StatefulSet", "aiki-postgres") not in world.objects, "Postgres would make a database of its own"
    assert told(found) | {"DatabaseReady": ("False", "Restoring"), "Restored": ("False", "Restoring")} == told(found)
    assert world.objects["PersistentVolumeClaim", "data-aiki-postgres-0"]["spec"]["resources"]["requests"]["storage"] == "10Gi"
    job = world.objects["Job", restoring(world, "restore")]["spec"]["template"]["spec"]
    assert {"name": "backup", "persistentVolumeClaim": {"claimName": "old-postgres-backup", "readOnly": True}} in job["volumes"]
    assert variables(job["containers"][0])["AIKI_RESTORE_TIME"] == "2026-01-07 09:00:00.000000+00"
    world.settle()
    world.turn()
    assert ("StatefulSet", "aiki-postgres") in world.objects
    assert not any(one.get("persistentVolumeClaim", {}).get("claimName") == "old-postgres-backup" for one in statefulset(world)["volumes"])
    for _ in range(3):
        world.settle()
        world.turn()
    fence = world.objects["Job", restoring(world, "fence")]["spec"]["template"]["spec"]["containers"][0]
    assert fence["args"] == ["restored"]
    world.settle()
    assert world.turn().conditions[0].status is True
    assert told(world.turn())["Restored"] == ("True", "Restored")


def test_no_server_starts_before_the_fence() -> None:
    world = World(database=managed(restoreFrom=RESTORE))
    for _ in range(6):
        world.turn()
        for key, body in list(world.objects.items()):
            if key[0] == "StatefulSet":
                world.objects[key] = {**body, "status": {"readyReplicas": 1}}
            if key[0] == "Job" and "-fence-" not in key[1]:
                world.objects[key] = {**body, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert ("Deployment", "aiki") not in world.objects
    assert told(world.turn())["Restored"] == ("False", "Fencing")


def test_a_database_that_is_there_is_never_restored_again() -> None:
    world = World(database=managed(restoreFrom=RESTORE)).ready().ready()
    del world.objects["Job", restoring(world, "restore")]
    world.turn()
    assert [name for _, name in world.of("Job") if "-restore-" in name] == []
    assert ("StatefulSet", "aiki-postgres") in world.objects


def test_a_restore_that_fails_says_why_and_waits_for_a_person() -> None:
    world = World(database=managed(restoreFrom=RESTORE))
    world.turn()
    name = restoring(world, "restore")
    refusal = "with exit code 1 (Error): the volume holds a database"
    world.jobs["restore"] = tuple(ContainerEnding(name, 1, refusal, NOW + number, held=False) for number in range(2))
    found = world.turn()
    assert told(found)["Stalled"] == ("True", "RestoreFailed")
    assert "the volume holds a database" in next(one.message for one in found.conditions if one.type == "Ready")


def test_when_the_field_is_taken_out_its_jobs_go_and_nothing_else_does() -> None:
    world = World(database=managed(restoreFrom=RESTORE)).ready().ready()
    before = statefulset(world)["containers"][0]["args"]
    world.spec = parse_server(server_body(database=managed()), default_image=world.spec.image)
    world.ready()
    assert [name for _, name in world.of("Job") if "-restore-" in name or "-fence-" in name] == []
    assert statefulset(world)["containers"][0]["args"] == before


def test_a_plan_without_a_restore_knows_of_none() -> None:
    found = Restoring(spec_of(), {}, {}, pods={}, no_pods={}, claims={}, before={})
    assert (found.asked, found.holds_up, found.fenced, list(found.volume()), found.condition(Condition("x", True, "", ""))) == (
        False, False, True, [], None,
    )  # fmt: skip


# ---- scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [restores.SCRIPT, manifests.ASK, manifests.PREPARE])
def test_scripts_are_bash(script: str) -> None:
    assert "$$" not in script, "Kubernetes makes one of two"
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False, capture_output=True).stderr == ""


def restore_into(home: Path, *, mark: str = "mark") -> subprocess.CompletedProcess[str]:
    env = {"PATH": "/usr/bin:/bin", "PGDATA": str(home / "pgdata"), "AIKI_RESTORE": mark, "AIKI_RESTORE_TIME": ""}
    return subprocess.run(["bash", "-c", restores.SCRIPT], env=env, capture_output=True, text=True, check=False)


def test_the_script_touches_no_database_that_is_there(tmp_path: Path) -> None:
    data = tmp_path / "pgdata"
    data.mkdir()
    (data / "PG_VERSION").write_text("17\n")
    refused = restore_into(tmp_path)
    assert (refused.returncode, "a restore never overwrites one" in refused.stderr) == (1, True)
    (tmp_path / "restored").write_text("mark\n")
    assert restore_into(tmp_path).returncode == 0, "this restore has made it"
    assert restore_into(tmp_path, mark="another").returncode == 1
    assert (data / "PG_VERSION").read_text() == "17\n"


# ---- schedules ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "wanted"),
    [
        ("0 3 * * *", "2026-01-07T03:00"),
        ("0 13 * * *", "2026-01-06T13:00"),
        ("*/20 * * * *", "2026-01-07T12:00"),
        ("5-10/5,50 11 * * *", "2026-01-07T11:50"),
        ("0 0 1 * *", "2026-01-01T00:00"),
        ("0 0 * * 0", "2026-01-04T00:00"),
        ("0 0 * * 7", "2026-01-04T00:00"),
        ("0 0 1 * 2", "2026-01-06T00:00"),
        ("0 0 29 2 *", "2024-02-29T00:00"),
    ],
)
def test_last_time_of_a_schedule(schedule: str, wanted: str) -> None:
    found = cron.last(schedule, datetime.fromtimestamp(NOW, UTC))
    assert found == datetime.fromisoformat(f"{wanted}+00:00")


@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 2**31))
def test_a_daily_schedule_fired_within_the_last_day(minute: int, hour: int, at: int) -> None:
    now = datetime.fromtimestamp(at, UTC)
    found = cron.last(f"{minute} {hour} * * *", now)
    assert found is not None
    assert 0 <= (now - found).total_seconds() < 86400
    assert (found.minute, found.hour) == (minute, hour)

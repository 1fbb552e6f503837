"""What an AikiServer needs, stage by stage: Secrets, Postgres and Valkey, the migration, the server."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from aiki_operator.manifests import secret
from aiki_operator.manifests.server import Sources
from aiki_operator.names import MIGRATED, client_secret
from aiki_operator.plan.pods import PodProblem
from aiki_operator.plan.server.credentials import secret_names
from aiki_operator.plan.server.migration import RETRY_SECONDS, ContainerEnding, endings
from aiki_operator.spec.server import parse_server
from support.operator.objects import crash, pod, server_body
from support.operator.world import IMAGE, NOW, World, told


def claim(size: str = "10Gi") -> dict[str, Any]:
    return {"metadata": {"name": "c"}, "spec": {"volumeName": "pv", "resources": {"requests": {"storage": size}}}}


def secret_with(**values: str) -> dict[str, Any]:
    return {"metadata": {"name": "s"}, "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}


EXTERNAL: dict[str, Any] = {
    "database": {"type": "External", "external": {"secretRef": {"name": "pg"}}},
    "redis": {"type": "External", "external": {"secretRef": {"name": "valkey", "key": "address"}}},
}


def test_managed_server_gets_ready_in_stages() -> None:
    world = World()
    first = world.turn()
    assert sorted(world.writes) == [*["NetworkPolicy"] * 5, "PodDisruptionBudget", *["Secret"] * 3, *["Service"] * 3, *["StatefulSet"] * 2]
    assert told(first)["SchemaMigrated"] == ("False", "WaitingForSecrets")
    second = world.turn()
    assert world.writes == ["Secret"] * 3
    assert told(second)["SchemaMigrated"] == ("False", "WaitingForDatabase")
    world.settle()
    third = world.turn()
    assert world.writes == ["Job"]
    assert told(third) | {"DatabaseReady": ("True", "Running"), "SchemaMigrated": ("False", "Migrating")} == told(third)
    world.settle()
    fourth = world.turn()
    assert world.writes == ["Deployment"]
    assert told(fourth)["Reconciling"] == ("True", "RollingOut")
    world.settle()
    last = world.turn()
    assert world.writes == []
    assert {name: word for name, (word, _) in told(last).items()} == dict.fromkeys(
        ("Ready", "DatabaseReady", "RedisReady", "SchemaMigrated", "RolloutComplete"), "True"
    ) | dict.fromkeys(("Reconciling", "Stalled"), "False")
    assert (last.ready_replicas, last.url, last.image) == (1, "http://aiki.shop.svc:8080", IMAGE)


def test_a_second_turn_over_its_own_result_writes_nothing() -> None:
    world = World(ingress={"host": "aiki.example.com"}, replicas=2, env=[{"name": "A", "value": "1"}]).ready()
    for password in ("drawn", "drawn again"):
        world.turn(password=password)
        assert world.writes == []


def test_passwords_are_drawn_once_and_differ() -> None:
    world = World()
    world.turn(password="first")
    drawn = {
        name: secret.decode(world.secrets[name], key)
        for name, key in (("aiki-postgres", "password"), ("aiki-redis", "password"), ("aiki-token", "token"))
    }
    assert len(set(drawn.values())) == 3
    assert "first" not in str(world.secrets)
    assert world.turn(password="second").create == ()


def test_client_secret_opens_the_server() -> None:
    world = World(service={"port": 80}).ready()
    client = world.secrets[client_secret("aiki")]
    assert secret.decode(client, "AIKI_URL") == "http://aiki.shop.svc:80"
    token = secret.decode(world.secrets["aiki-token"], "token")
    assert secret.decode(world.secrets["aiki-worker"], "AIKI_TOKEN") == token
    assert secret.decode(client, "AIKI_TOKEN") not in (token, None)
    assert secret.decode(world.secrets["aiki-tokens"], "clients") == f"default:{secret.decode(client, 'AIKI_TOKEN')}"


def test_external_secrets_are_read_and_named_where_they_are_missing() -> None:
    world = World(**EXTERNAL)
    assert set(secret_names(world.spec)) == {"pg", "valkey", "aiki-token", "aiki-tokens", "aiki-client", "aiki-worker"}
    found = world.turn()
    assert (told(found)["DatabaseReady"], told(found)["Stalled"]) == (("False", "SecretNotFound"), ("True", "SecretNotFound"))
    assert "Secret pg does not exist in this namespace: create it with the key uri" in found.conditions[0].message
    world.secrets |= {"pg": secret_with(uri="postgresql://x"), "valkey": secret_with(url="redis://x")}
    found = world.turn()
    assert told(found)["RedisReady"] == ("False", "SecretIncomplete")
    world.secrets["valkey"] = secret_with(address="redis://x")
    world.ready()
    assert told(world.turn())["Ready"] == ("True", "Ready")
    assert world.of("StatefulSet") == []


def test_cloud_native_pg_reads_the_secret_of_its_cluster() -> None:
    world = World(database={"type": "CloudNativePG", "cloudNativePG": {"cluster": "main"}})
    assert "main-app" in secret_names(world.spec)
    world.secrets["main-app"] = secret_with(uri="postgresql://x")
    assert told(world.turn())["DatabaseReady"] == ("True", "Configured")


def test_new_image_migrates_before_it_rolls_out_and_the_old_one_serves_meanwhile() -> None:
    world = World().ready()
    old = world.of("Job")[0]
    world.spec = replace(world.spec, image="example.com/aiki-server:2")
    found = world.turn()
    assert world.writes == ["Job"]
    assert (told(found)["Reconciling"], found.image) == (("True", "Migrating"), IMAGE)
    world.settle()
    world.turn()
    assert world.writes == ["Deployment"]
    world.settle()
    assert world.turn().delete == (old,)
    assert len(world.of("Job")) == 1


def test_failed_migration_stalls_and_is_tried_again_after_a_minute() -> None:
    world = World()
    for _ in range(2):
        world.turn()
        world.settle()
    world.turn()
    world.fail_job("2026-01-01T12:00:00Z")
    found = world.turn(now=NOW + RETRY_SECONDS)
    assert (told(found)["Stalled"], found.delete) == (("True", "MigrationFailed"), ())
    assert "kubectl logs job/aiki-migrate-" in found.conditions[0].message
    world.turn(now=NOW + RETRY_SECONDS + 1)
    assert world.writes == ["-Job"]
    world.turn()
    assert world.writes == ["Job"]


def migrating() -> tuple[World, str]:
    """A server whose migration has begun, and the name of its Job."""
    world = World()
    world.turn()
    world.settle()
    world.turn()
    return world, world.of("Job")[0][1]


def ending(job: str, code: int, *, at: float = NOW, held: bool = False) -> ContainerEnding:
    return ContainerEnding(job, code, f"with exit code {code} (Error): no route to host", at, held)


def test_migration_that_fails_twice_stalls_with_its_last_words_and_stays_so_until_it_succeeds() -> None:
    world, job = migrating()
    world.endings = (ending(job, 1),)
    assert told(world.turn())["Reconciling"] == ("True", "MigrationFailed")
    world.endings = (ending(job, 1), ending(job, 1))
    found = world.turn()
    assert told(found)["Stalled"] == ("True", "MigrationFailed")
    assert "no route to host" in found.conditions[0].message
    assert f"kubectl logs job/{job}" in found.conditions[0].message
    world.endings, world.objects["Job", job] = (), {**world.objects["Job", job], "status": {}}  # another try
    assert told(world.turn())["Stalled"] == ("True", "MigrationFailed")
    world.settle()
    world.objects["Job", job]["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    assert told(world.turn())["SchemaMigrated"] == ("True", "Migrated")


def test_failures_that_the_job_counts_stall_though_their_pods_are_gone() -> None:
    world, job = migrating()
    world.objects["Job", job] = {**world.objects["Job", job], "status": {"failed": 2}}
    assert told(world.turn())["Stalled"] == ("True", "MigrationFailed")


def test_sidecar_neither_keeps_a_migration_from_being_done_nor_its_pod_for_ever() -> None:
    world, job = migrating()
    world.objects["Job", job] = {**world.objects["Job", job], "status": {"active": 1}}
    world.endings = (ending(job, 0, held=True),)
    found = world.turn()
    assert (told(found)["SchemaMigrated"], found.finish) == (("True", "Migrated"), job)
    noted = {**world.objects["Job", job]["metadata"], "annotations": {MIGRATED: "true"}}
    world.objects["Job", job] = {**world.objects["Job", job], "metadata": noted}
    world.endings = ()
    found = world.turn()
    assert (told(found)["SchemaMigrated"], found.finish, found.delete) == (("True", "Migrated"), None, ())


def test_sidecar_does_not_keep_a_failed_migration_from_being_tried_again() -> None:
    world, job = migrating()
    world.endings = (ending(job, 1, held=True),)
    assert world.turn(now=NOW + RETRY_SECONDS).delete == ()
    assert world.turn(now=NOW + RETRY_SECONDS + 1).delete == (("Job", job),)


@pytest.mark.parametrize(("kind", "condition"), [("StatefulSet", "DatabaseReady"), ("Job", "SchemaMigrated")])
def test_quota_that_lets_no_pod_be_made_is_told_in_its_own_words(kind: str, condition: str) -> None:
    world, job = migrating()
    if kind == "StatefulSet":
        world = World()
        world.turn()
    name = job if kind == "Job" else "aiki-postgres"
    world.no_pods = {(kind, name): PodProblem("PodsRefused", "exceeded quota: small", lasting=True)}
    found = world.turn()
    assert (told(found)[condition], told(found)["Stalled"]) == (("False", "PodsRefused"), ("True", "PodsRefused"))
    assert "exceeded quota: small" in found.conditions[0].message


def test_end_of_a_migration_is_read_from_its_own_container() -> None:
    ended = {"exitCode": 0, "reason": "Completed", "finishedAt": "2026-01-01T12:00:00Z"}
    pod = {
        "metadata": {"labels": {"job-name": "j"}},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "proxy", "state": {"running": {}}}, {"name": "migrate", "state": {"terminated": ended}}],
        },
    }
    assert endings([pod, {"metadata": {}}]) == (ContainerEnding("j", 0, "with exit code 0 (Completed)", NOW, held=True),)


def test_database_that_restarts_does_not_take_the_server_away() -> None:
    world = World().ready()
    for key in world.of("StatefulSet"):
        world.objects[key] = {**world.objects[key], "status": {"readyReplicas": 0}}
    found = world.turn()
    assert (world.writes, found.delete) == ([], ())
    assert told(found)["Ready"] == ("False", "Starting")


@pytest.mark.parametrize("changed", ["pg", "valkey", "aiki-token"])
def test_changed_secret_restarts_the_server_and_a_new_database_is_migrated(changed: str) -> None:
    world = World(**EXTERNAL)
    world.secrets |= {"pg": secret_with(uri="postgresql://x"), "valkey": secret_with(address="redis://x")}
    world.ready()
    world.secrets[changed] = secret_with(uri="new", address="new", token="another-token")
    writes: list[str] = []
    for _ in range(3):
        world.turn()
        writes += world.writes
        world.settle()
    assert "Deployment" in writes
    assert ("Job" in writes) == (changed != "valkey")
    assert ("Secret" in writes) == (changed == "aiki-token")


def test_optional_objects_go_when_they_are_not_asked_for_any_more() -> None:
    world = World(ingress={"host": "aiki.example.com"}).ready()
    world.spec = replace(world.spec, ingress=None, disruption_budget=None, network_policy=False)
    world.turn()
    assert sorted(world.writes) == ["-Ingress", *["-NetworkPolicy"] * 5, "-PodDisruptionBudget"]
    world.turn()
    assert world.writes == []


@pytest.mark.parametrize(
    ("component", "condition"), [("postgres", "DatabaseReady"), ("redis", "RedisReady"), ("migration", "SchemaMigrated")]
)
def test_trouble_of_a_pod_is_the_reason_of_its_stage(component: str, condition: str) -> None:
    world = World()
    world.turn()
    if component == "migration":
        world.settle()
        world.turn()
    world.pods = {component: (pod("p", ready=False, trouble=crash("ImagePullFailed")),)}
    found = told(world.turn())
    assert (found[condition], found["Stalled"]) == (("False", "ImagePullFailed"), ("True", "ImagePullFailed"))


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]}, "PodsRefused"),
        ({"conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]}, "NeverReady"),
    ],
)
def test_server_that_does_not_get_ready_stalls(status: dict[str, Any], reason: str) -> None:
    world = World().ready()
    key = world.of("Deployment")[0]
    world.objects[key] = {**world.objects[key], "status": status}
    assert told(world.turn())["Stalled"] == ("True", reason)


def test_status_of_an_older_generation_does_not_count_as_rolled_out() -> None:
    world = World().ready()
    key = world.of("Deployment")[0]
    world.objects[key]["metadata"]["generation"] = 2
    world.objects[key]["status"]["observedGeneration"] = 1
    assert told(world.turn())["RolloutComplete"] == ("False", "RollingOut")


def test_digest_of_the_configuration_says_nothing_of_a_password_without_the_token() -> None:
    world = World(**EXTERNAL)
    world.secrets |= {"pg": secret_with(uri="weak"), "valkey": secret_with(address="redis://x")}

    def config(token: str) -> str:
        world.secrets["aiki-token"] = secret_with(token=token)
        world.ready()
        found: str = world.objects[world.of("Deployment")[0]]["spec"]["template"]["metadata"]["annotations"]["aiki.dev/config"]
        return found

    assert config("token-number-one") != config("token-number-two")


def test_sources_are_not_printed_with_secrets() -> None:
    assert not {"password", "value"} & set(Sources.__slots__)


def restarts(world: World, name: str) -> str:
    """What restarts the pod of a StatefulSet when it changes."""
    noted: str = world.objects["StatefulSet", name]["spec"]["template"]["metadata"]["annotations"]["aiki.dev/config"]
    return noted


def test_changed_password_restarts_the_database_that_takes_it_over_and_everybody_learns_it() -> None:
    world = World().ready()
    before = restarts(world, "aiki-postgres")
    world.secrets["aiki-postgres"] = secret_with(password="it's / new\n")
    world.ready()
    assert restarts(world, "aiki-postgres") != before
    assert secret.decode(world.secrets["aiki-postgres"], "uri") == "postgresql://aiki:it%27s%20%2F%20new@aiki-postgres.shop.svc:5432/aiki"
    assert "it's" not in str([body for (kind, _), body in world.objects.items() if kind != "Secret"])
    assert told(world.turn())["Ready"] == ("True", "Ready")
    assert world.writes == []


def test_lost_password_beside_data_is_not_replaced_by_a_guess() -> None:
    world = World().ready()
    world.claims["data-aiki-postgres-0"] = claim()
    del world.secrets["aiki-postgres"]
    found = world.turn()
    assert (world.writes, found.create) == ([], ())
    assert told(found)["Stalled"] == ("True", "SecretLost")
    assert "Secret aiki-postgres is gone" in found.conditions[0].message
    world.secrets["aiki-postgres"] = secret_with(username="aiki")
    assert told(world.turn())["Stalled"] == ("True", "SecretIncomplete")
    world.secrets["aiki-postgres"] = secret_with(password="chosen")
    world.ready()
    assert told(world.turn())["Ready"] == ("True", "Ready")


def test_secret_that_was_there_first_is_adopted() -> None:
    world = World()
    world.secrets["aiki-postgres"] = secret_with(password="mine")
    world.ready()
    assert secret.decode(world.secrets["aiki-postgres"], "password") == "mine"
    assert told(world.turn())["Ready"] == ("True", "Ready")


def test_lost_token_is_the_one_that_clients_have() -> None:
    world = World().ready()
    token = secret.decode(world.secrets["aiki-token"], "token")
    del world.secrets["aiki-token"]
    world.turn(password="another")
    assert secret.decode(world.secrets["aiki-token"], "token") == token


@pytest.mark.parametrize("text", ["default:abcdefgh", "one,two-three", "a b c d e f", "", "x" * 513, "x", "s3cr3t7", "team-of-many"])
def test_token_of_another_shape_is_refused_in_words(text: str) -> None:
    world = World(auth={"tokenSecretRef": {"name": "mine"}}, namespaces=[{"name": "team-of-many", "tokenSecretRef": {"name": "a"}}])
    world.secrets |= {"mine": secret_with(token=text), "a": secret_with(token="token-of-many-people")}
    world.turn()
    world.settle()
    found = world.turn()
    assert told(found)["Stalled"] == ("True", "TokenInvalid" if text else "SecretIncomplete")
    assert "Secret mine" in found.conditions[0].message
    assert world.of("Deployment") == []


def test_each_namespace_has_a_token_of_its_own() -> None:
    references = [{"name": "team-a", "tokenSecretRef": {"name": "a"}}, {"name": "team-b", "tokenSecretRef": {"name": "b", "key": "t"}}]
    world = World(namespaces=references, auth={"tokenSecretRef": {"name": "mine"}})
    world.secrets |= {"mine": secret_with(token="token-of-m\n"), "a": secret_with(token="token-of-s"), "b": secret_with(t="token-of-s")}
    world.turn()
    assert "give each its own" in next(one for one in world.turn().conditions if one.type == "Ready").message
    world.secrets["b"] = secret_with(t="token-of-other")
    world.ready()
    assert secret.decode(world.secrets["aiki-tokens"], "tokens") == "default:token-of-m,team-a:token-of-s,team-b:token-of-other"
    assert secret.decode(world.secrets["aiki-worker"], "AIKI_TOKEN") == "token-of-m"
    clients = dict(one.split(":") for one in str(secret.decode(world.secrets["aiki-tokens"], "clients")).split(","))
    assert clients.keys() == {"default", "team-a", "team-b"}
    assert len({*clients.values(), "token-of-m", "token-of-s", "token-of-other"}) == 6
    assert secret.decode(world.secrets["aiki-client"], "AIKI_TOKEN") == clients["default"]


@pytest.mark.parametrize(
    ("asked", "there", "grows"), [("20Gi", "10Gi", True), ("20Gi", "20Gi", False), ("1Gi", "2Gi", False), ("2Ti", "1.5Ti", True)]
)
def test_volume_grows_and_never_shrinks(asked: str, there: str, grows: bool) -> None:
    world = World(database={"managed": {"storage": {"size": asked}}})
    world.claims["data-aiki-postgres-0"] = claim(there)
    world.secrets["aiki-postgres"] = secret_with(password="p")
    world.turn()
    assert ("PersistentVolumeClaim" in world.writes) is grows
    if grows:
        made = world.objects["PersistentVolumeClaim", "data-aiki-postgres-0"]
        assert made["spec"] == {"resources": {"requests": {"storage": asked}}}


def stuck(asked: str, has: str, state: str = "") -> dict[str, Any]:
    """A claim whose volume is smaller than what it asks for."""
    status = {"capacity": {"storage": has}, "allocatedResourceStatuses": {"storage": state}}
    return {**claim(asked), "status": status}


def test_status_says_how_large_the_volumes_are_so_that_the_spec_may_go_back_so_far() -> None:
    """The CRD's rule reads it: the larger size that a StorageClass refused can be taken back, and that of a volume that grew cannot."""
    world = World(database={"managed": {"storage": {"size": "20Gi"}}})
    assert world.turn().volumes == {}
    world.claims = {"data-aiki-postgres-0": claim("10Gi"), "data-aiki-redis-0": stuck("2Gi", "1Gi")}
    assert world.turn().volumes == {"database": "10Gi", "redis": "1Gi"}
    world.claims = {"data-aiki-postgres-0": stuck("10Gi", "100Gi")}  # storage that gives more than it is asked for
    assert world.turn().volumes == {"database": "10Gi"}
    external = World(database={"type": "External", "external": {"secretRef": {"name": "pg"}}})
    external.claims = {"data-aiki-postgres-0": claim("10Gi")}
    assert external.turn().volumes == {}


@pytest.mark.parametrize(
    ("size", "state", "asks"),
    [
        ("15Gi", "ControllerResizeInfeasible", "15Gi"),
        ("15Gi", "NodeResizeInfeasible", "15Gi"),
        ("15Gi", "ControllerResizeInProgress", None),
        ("15Gi", "", None),
        ("10Gi", "ControllerResizeInfeasible", None),
        ("20Gi", "ControllerResizeInfeasible", None),
    ],
)
def test_claim_that_cannot_be_satisfied_asks_for_less_again(size: str, state: str, asks: str | None) -> None:
    world = World(database={"managed": {"storage": {"size": size}}})
    world.claims["data-aiki-postgres-0"] = stuck("20Gi", "10Gi", state)
    world.secrets["aiki-postgres"] = secret_with(password="p")
    world.turn()
    made = world.objects.get(("PersistentVolumeClaim", "data-aiki-postgres-0"))
    assert (None if made is None else made["spec"]["resources"]["requests"]["storage"]) == asks


def classed(name: str | None, **claim: Any) -> World:
    """A new server whose Postgres waits for a volume of the class `typo`, after the spec was put right."""
    world = World(database={"managed": {"storage": {"className": "typo"}}})
    world.turn()
    template = world.objects["StatefulSet", "aiki-postgres"]["spec"]["volumeClaimTemplates"][0]
    found = {"metadata": {**template["metadata"], "name": "data-aiki-postgres-0"}, "spec": {**template["spec"], **claim}}
    world.claims["data-aiki-postgres-0"] = found
    storage = {} if name is None else {"className": name}
    world.spec = parse_server(server_body(database={"managed": {"storage": storage}}), default_image=IMAGE)
    return world


@pytest.mark.parametrize("name", ["fast", None])
def test_storage_class_of_a_server_without_data_can_be_put_right(name: str | None) -> None:
    """The StatefulSet goes before its claim, or its controller would make the claim again."""
    world = classed(name)
    assert world.turn().delete == (("StatefulSet", "aiki-postgres"),)
    assert "StatefulSet" not in world.writes
    assert world.turn().delete == (("PersistentVolumeClaim", "data-aiki-postgres-0"),)
    assert ("StatefulSet", "aiki-postgres") not in world.objects
    assert world.turn().delete == ()
    made = world.objects["StatefulSet", "aiki-postgres"]["spec"]["volumeClaimTemplates"][0]["spec"]
    assert made.get("storageClassName") == name


def test_claim_that_is_going_is_waited_for() -> None:
    world = classed("fast")
    world.turn()
    claim = world.claims["data-aiki-postgres-0"]
    world.turn()
    world.claims["data-aiki-postgres-0"] = {**claim, "metadata": {**claim["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}}
    world.turn()
    assert ("StatefulSet", "aiki-postgres") not in world.objects


@pytest.mark.parametrize(
    "claim",
    [{"volumeName": "pv"}, {"dataSource": {"kind": "VolumeSnapshot", "name": "s"}}, {"dataSourceRef": {"kind": "Any", "name": "s"}}],
)
def test_storage_class_is_left_where_there_is_data_or_is_to_be(claim: dict[str, Any]) -> None:
    world = classed("fast", **claim)
    for _ in range(3):
        assert world.turn().delete == ()
    assert ("StatefulSet", "aiki-postgres") in world.objects


def test_claim_of_somebody_else_is_left_alone() -> None:
    world = classed("fast")
    world.claims["data-aiki-postgres-0"]["metadata"]["labels"] = {}
    assert world.turn().delete == ()


def test_running_database_is_never_made_anew() -> None:
    world = classed("fast")
    world.claims.clear()
    world.objects["StatefulSet", "aiki-postgres"]["status"] = {"readyReplicas": 1}
    assert world.turn().delete == ()


def test_what_a_stateful_set_cannot_change_stays_as_it_is() -> None:
    world = World().ready()
    for key in world.of("StatefulSet"):
        live = world.objects[key]
        world.objects[key] = {
            **live,
            "spec": {**live["spec"], "selector": {"matchLabels": {"older": "operator"}}, "volumeClaimTemplates": []},
        }
    changed: dict[str, Any] = {"database": {"managed": {"image": "postgres:17.1", "storage": {"size": "40Gi"}}}}
    world.spec = parse_server(server_body(**changed), default_image=IMAGE)
    world.turn()
    made = world.objects["StatefulSet", "aiki-postgres"]["spec"]
    assert (made["selector"], made["volumeClaimTemplates"]) == ({"matchLabels": {"older": "operator"}}, [])
    assert made["template"]["spec"]["containers"][0]["image"] == "postgres:17.1"

"""The objects that we make: names, owners, what users may add to them, and the restricted Pod Security Standard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from aiki_operator.manifests import disruption, ingress, secret, server, service
from aiki_operator.manifests.databases import statefulset
from aiki_operator.manifests.pods.pod import FIXED
from aiki_operator.manifests.pods.quantity import quantity
from aiki_operator.manifests.server import Sources
from aiki_operator.manifests.worker import STOP_SECONDS, deployment
from aiki_operator.names import BUILD_LABEL, BUILD_SPEC_ANNOTATION, POOL_LABEL, SELECTOR_OF_OURS, SERVER_LABEL
from aiki_operator.spec.placement import Budget
from aiki_operator.spec.pool import parse_pool
from aiki_operator.spec.server import ManagedDatabase, SecretKey, ServerSpec, parse_server
from support.operator.objects import pool_body, server_body

SOURCES = Sources(SecretKey("pg", "uri"), SecretKey("valkey", "url"), SecretKey("token", "token"), "c1", "c2")
LONGEST = "a" * 40

Manifest = dict[str, Any]


def parsed(**spec: Any) -> ServerSpec:
    return parse_server(server_body(**spec), default_image="example.com/aiki-server:1")


def worker(**spec: Any) -> Manifest:
    return deployment(parse_pool(pool_body(**spec)), replicas=2, config="c")


def everything(name: str = "aiki") -> Iterator[Manifest]:
    spec = parse_server(server_body(name=name, ingress={"host": "aiki.example.com"}), default_image="i")
    assert isinstance(spec.database, ManagedDatabase)
    assert isinstance(spec.redis, ManagedDatabase)
    assert spec.ingress is not None
    yield statefulset.postgres(spec.owner, spec.database)
    yield statefulset.redis(spec.owner, spec.redis)
    yield from (service.server(spec), service.postgres(spec.owner), service.redis(spec.owner))
    yield from (server.deployment(spec, SOURCES), server.migration(spec, SOURCES))
    yield from (disruption.budget(spec, Budget()), ingress.ingress(spec, spec.ingress), secret.client(spec, "t"))
    yield from (secret.postgres_secret(spec, "p"), secret.redis_secret(spec, "p"), secret.token_secret(spec, "t"))
    yield deployment(parse_pool(pool_body(name=name)), replicas=1, config="c")


def templates() -> list[Any]:
    return [
        pytest.param(one["spec"]["template"], id=f"{one['kind']} {one['metadata']['name']}")
        for one in everything()
        if "template" in one.get("spec", {})
    ]


def first(manifest: Manifest) -> dict[str, Any]:
    found: dict[str, Any] = manifest["spec"]["template"]["spec"]["containers"][0]
    return found


def env(manifest: Manifest) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in first(manifest)["env"]}


# ---- every object -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "aiki", LONGEST])
def test_names_and_label_values_fit_kubernetes(name: str) -> None:
    for one in everything(name):
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", one["metadata"]["name"])
        # A StatefulSet's pods carry its name and a hash of eleven in a label; a Deployment's pods are cut by Kubernetes.
        assert len(one["metadata"]["name"]) + (11 if one["kind"] == "StatefulSet" else 0) <= 63
        assert all(len(value) <= 63 for value in one["metadata"]["labels"].values())


def test_every_object_is_found_again_by_its_labels() -> None:
    marker, value = SELECTOR_OF_OURS.split("=")
    for one in everything():
        assert one["metadata"]["labels"][marker] == value
        assert {SERVER_LABEL, POOL_LABEL} & set(one["metadata"]["labels"])
        assert one["metadata"]["namespace"] == "shop"


def test_selectors_select_what_their_template_makes() -> None:
    for one in everything():
        if "template" in one.get("spec", {}) and "selector" in one["spec"]:
            assert one["spec"]["selector"]["matchLabels"].items() <= one["spec"]["template"]["metadata"]["labels"].items()


def test_two_servers_and_two_pools_never_select_each_others_pods() -> None:
    one, other = worker(name="a", image="x"), worker(name="b", image="x")
    assert one["spec"]["selector"] != other["spec"]["selector"]
    assert worker(image="x")["spec"]["selector"] != worker(image="y")["spec"]["selector"]
    mine, theirs = (service.server(parse_server(server_body(name=name), default_image="i")) for name in ("a", "b"))
    assert mine["spec"]["selector"] != theirs["spec"]["selector"]


def test_everything_is_owned_but_what_opens_data_that_stays() -> None:
    unowned = {one["metadata"]["name"] for one in everything() if "ownerReferences" not in one["metadata"]}
    assert unowned == {"aiki-postgres", "aiki-token"}
    gone = parsed(database={"managed": {"deletionPolicy": "Delete"}})
    assert "ownerReferences" in secret.postgres_secret(gone, "p")["metadata"]
    assert "ownerReferences" in secret.token_secret(gone, "t")["metadata"]
    owner = worker()["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("AikiWorkerPool", "uid-of-onboarding", True)


@pytest.mark.parametrize("template", templates())
def test_pods_meet_the_restricted_standard(template: Manifest) -> None:
    spec = template["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    allowed = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
    assert all(set(volume) - {"name"} <= allowed for volume in spec["volumes"])
    for one in spec["containers"]:
        security = one["securityContext"]
        assert (security["allowPrivilegeEscalation"], security["runAsNonRoot"]) == (False, True)
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert security["readOnlyRootFilesystem"] is True
        assert all("hostPort" not in port for port in one.get("ports", []))
        mounted = {mount["name"] for mount in one["volumeMounts"]}
        assert mounted <= {volume["name"] for volume in spec["volumes"]} | {"data"}


@pytest.mark.parametrize("template", templates())
def test_pods_get_no_credentials_for_the_api(template: Manifest) -> None:
    assert template["spec"]["automountServiceAccountToken"] is False


def test_no_secret_is_written_into_anything_but_a_secret() -> None:
    spec = parsed()
    values = ["hunter2", "t0ken"]
    written = [secret.postgres_secret(spec, values[0]), secret.redis_secret(spec, values[0]), secret.client(spec, values[1])]
    assert all(one["kind"] == "Secret" for one in written)
    others = [one for one in everything() if one["kind"] != "Secret"]
    assert not any(value in str(others) for value in values)


# ---- the server ---------------------------------------------------------------------------------------------------


def test_server_reads_its_configuration_from_secrets() -> None:
    found = env(server.deployment(parsed(retention={"days": 7}), SOURCES))
    assert found["AIKI_DATABASE_URL"] == {"secretKeyRef": {"name": "pg", "key": "uri"}}
    assert found["AIKI_REDIS_URL"] == {"secretKeyRef": {"name": "valkey", "key": "url"}}
    assert found["AIKI_TOKENS"] == {"secretKeyRef": {"name": "token", "key": "token"}}
    assert (found["AIKI_RETENTION_DAYS"], found["AIKI_MIGRATE"]) == ("7", "0")


def test_server_rolls_without_a_gap() -> None:
    found = server.deployment(parsed(), SOURCES)
    assert found["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    pause = first(found)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > pause > 0


def test_migration_runs_once_per_image_and_database() -> None:
    one, two = parsed(), parsed(image="example.com/aiki-server:2")
    other = Sources(SOURCES.database, SOURCES.redis, SOURCES.tokens, "changed", "c2")
    moved = Sources(SOURCES.database, SOURCES.redis, SOURCES.tokens, "c1", "changed")
    names = [server.migration_name(spec, sources) for spec, sources in ((one, SOURCES), (one, other), (two, SOURCES), (one, moved))]
    assert names[0] == names[1]
    assert len(set(names)) == 3


def test_template_for_the_server_does_not_reach_the_migration_but_its_place_does() -> None:
    template = {"spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "server", "resources": {"limits": {"cpu": "1"}}}]}}
    job = server.migration(parsed(template=template), SOURCES)["spec"]["template"]["spec"]
    assert job["nodeSelector"] == {"disk": "ssd"}
    assert [one["name"] for one in job["containers"]] == ["migrate"]
    assert job["restartPolicy"] == "Never"


def test_service_and_ingress_follow_the_spec() -> None:
    spec = parsed(
        service={"type": "LoadBalancer", "port": 80, "annotations": {"lb": "internal"}},
        ingress={"host": "h", "path": "/aiki", "className": "nginx", "tlsSecretName": "cert", "annotations": {"a": "b"}},
    )
    found = service.server(spec)
    assert (found["spec"]["type"], found["spec"]["ports"][0]["port"], found["metadata"]["annotations"]) == (
        "LoadBalancer",
        80,
        {"lb": "internal"},
    )
    assert spec.ingress is not None
    way = ingress.ingress(spec, spec.ingress)
    assert (way["spec"]["ingressClassName"], way["spec"]["tls"]) == ("nginx", [{"hosts": ["h"], "secretName": "cert"}])
    backend = way["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    assert backend == {"name": found["metadata"]["name"], "port": {"name": found["spec"]["ports"][0]["name"]}}


@pytest.mark.parametrize(("policy", "fate"), [("Retain", "Retain"), ("Delete", "Delete")])
def test_volumes_share_the_fate_that_the_spec_chose(policy: str, fate: str) -> None:
    spec = parsed(database={"managed": {"deletionPolicy": policy, "storage": {"size": "5Gi", "className": "fast"}}})
    assert isinstance(spec.database, ManagedDatabase)
    found = statefulset.postgres(spec.owner, spec.database)["spec"]
    assert found["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": fate, "whenScaled": "Retain"}
    claim = found["volumeClaimTemplates"][0]["spec"]
    assert (claim["storageClassName"], claim["resources"]["requests"]["storage"]) == ("fast", "5Gi")


def test_managed_valkey_keeps_what_it_is_told_and_evicts_nothing() -> None:
    spec = parsed()
    assert isinstance(spec.redis, ManagedDatabase)
    arguments = " ".join(first(statefulset.redis(spec.owner, spec.redis))["args"])
    assert "--appendonly yes" in arguments
    assert "--maxmemory-policy noeviction" in arguments


# ---- the worker ---------------------------------------------------------------------------------------------------


def test_worker_knows_who_it_is_and_where_the_server_is() -> None:
    spec = parse_pool(pool_body(concurrency=7, drain={"timeoutSeconds": 40}, pool="shared"))
    found = deployment(spec, replicas=2, config="c")
    known = env(found)
    assert known["AIKI_TOKEN"] == {"secretKeyRef": {"name": "aiki-worker", "key": "AIKI_TOKEN"}}
    assert (known["AIKI_POOL"], known["AIKI_BUILD"], known["AIKI_CONCURRENCY"]) == ("shared", spec.build, "7")
    assert known["AIKI_POD"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert found["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 40 + STOP_SECONDS
    assert found["metadata"]["labels"][BUILD_LABEL] == spec.build
    assert found["metadata"]["name"] == f"onboarding-{spec.build}"


def test_template_is_merged_over_the_pod_but_not_over_what_we_select_by() -> None:
    template = {
        "metadata": {"labels": {POOL_LABEL: "stolen", "team": "a"}, "annotations": {"aiki.dev/config": "stolen", "note": "x"}},
        "spec": {"priorityClassName": "high", "containers": [{"name": "worker", "stdin": True}, {"name": "proxy", "image": "p"}]},
    }
    made = worker(template=template)["spec"]["template"]
    assert made["metadata"]["labels"] | {POOL_LABEL: "onboarding", "team": "a"} == made["metadata"]["labels"]
    assert made["metadata"]["annotations"] == {"aiki.dev/config": "c", "note": "x"}
    assert made["spec"]["priorityClassName"] == "high"
    assert [one["name"] for one in made["spec"]["containers"]] == ["worker", "proxy"]
    assert made["spec"]["containers"][0]["stdin"] is True


def test_what_the_user_chose_is_noted_so_that_it_can_be_written_again() -> None:
    assert (
        worker(args=["--all"])["metadata"]["annotations"][BUILD_SPEC_ANNOTATION] == '{"args":["--all"],"image":"example.com/onboarding:1"}'
    )


def test_optional_members_appear_only_where_they_are_asked_for() -> None:
    assert not {"command", "args", "envFrom"} & set(first(worker()))
    full = worker(
        command=["a"],
        args=["b"],
        envFrom=[{"secretRef": {"name": "s"}}],
        resources={"limits": {"cpu": "1"}},
        imagePullSecrets=[{"name": "r"}],
    )
    assert {"command", "args", "envFrom", "resources"} <= set(first(full))
    assert full["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "r"}]


@pytest.mark.parametrize("template", templates())
def test_every_container_has_requests_and_a_memory_limit(template: dict[str, Any]) -> None:
    for container in template["spec"]["containers"]:
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
        asked, limit = (quantity(container["resources"][part]["memory"]) for part in ("requests", "limits"))
        assert asked is not None
        assert limit is not None
        assert asked <= limit


def test_databases_ask_for_what_they_use_so_that_others_are_evicted_first() -> None:
    asked = {
        first(one)["name"]: quantity(first(one)["resources"]["requests"]["memory"])
        for one in everything()
        if "template" in one.get("spec", {})
    }
    assert max(asked, key=lambda name: asked[name] or 0) == "postgres"


def test_a_user_s_resources_replace_ours_as_a_whole() -> None:
    mine = {"limits": {"memory": "64Mi"}}
    assert first(worker(resources=mine))["resources"] == mine
    spec = parsed(
        resources=mine, migration={"resources": mine}, database={"managed": {"resources": mine}}, redis={"managed": {"resources": mine}}
    )
    assert isinstance(spec.database, ManagedDatabase)
    assert isinstance(spec.redis, ManagedDatabase)
    made = [server.deployment(spec, SOURCES), server.migration(spec, SOURCES), statefulset.postgres(spec.owner, spec.database)]
    redis = statefulset.redis(spec.owner, spec.redis)
    assert [first(one)["resources"] for one in (*made, redis)] == [mine] * 4
    assert first(redis)["args"][-2:] == ["--maxmemory", str(64 * 2**20 * 3 // 4)]


def test_migration_runs_where_the_server_may_and_where_it_is_told_to() -> None:
    spec = parsed(
        template={"metadata": {"labels": {"team": "a"}}, "spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"name": "x"}]}},
        migration={"template": {"spec": {"tolerations": [{"key": "batch", "operator": "Exists"}]}}},
    )
    made = server.migration(spec, SOURCES)["spec"]["template"]
    assert (made["spec"]["nodeSelector"], made["spec"]["tolerations"]) == ({"disk": "ssd"}, [{"key": "batch", "operator": "Exists"}])
    assert [one["name"] for one in made["spec"]["containers"]] == ["migrate"]
    assert made["metadata"]["labels"]["team"] == "a"


def test_tolerations_of_the_user_come_beside_ours() -> None:
    """Without ours, a pod stays five minutes on a node that does not answer."""
    theirs = [{"key": "gpu", "operator": "Exists"}, {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute", "tolerationSeconds": 60}]
    for made in (
        worker(template={"spec": {"tolerations": theirs}}),
        server.deployment(parsed(template={"spec": {"tolerations": theirs}}), SOURCES),
    ):
        found = made["spec"]["template"]["spec"]["tolerations"]
        assert [(one["key"], one.get("tolerationSeconds")) for one in found] == [
            ("gpu", None), ("node.kubernetes.io/not-ready", 60), ("node.kubernetes.io/unreachable", 15),
        ]  # fmt: skip


def test_of_members_that_exclude_each_other_the_user_s_is_taken() -> None:
    mine = {
        "containers": [
            {
                "name": "worker",
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
                "readinessProbe": {"exec": {"command": ["true"]}},
            }
        ],
        "volumes": [{"name": "tmp", "persistentVolumeClaim": {"claimName": "c"}}],
    }
    made = worker(env=[{"name": "A", "value": "1"}], template={"spec": mine})
    probe = first(made)["readinessProbe"]
    assert (set(probe) & {"exec", "httpGet"}, probe["periodSeconds"]) == ({"exec"}, 10)
    assert [one for one in first(made)["env"] if one["name"] == "A"] == mine["containers"][0]["env"]  # type: ignore[index]
    assert made["spec"]["template"]["spec"]["volumes"] == mine["volumes"]


@pytest.mark.parametrize("name", sorted(FIXED))
def test_what_the_operator_counts_on_is_set_by_nobody_else(name: str) -> None:
    theirs = {"name": name, "value": "stolen"}
    for kind, container, made in (
        ("worker", "worker", worker(template={"spec": {"containers": [{"name": "worker", "env": [theirs]}]}})),
        ("server", "server", server.deployment(parsed(template={"spec": {"containers": [{"name": "server", "env": [theirs]}]}}), SOURCES)),
    ):
        ours = {"worker": worker(), "server": server.deployment(parsed(), SOURCES)}[kind]
        assert first(made)["name"] == container
        assert env(made).get(name) != "stolen" or name not in env(ours)


@pytest.mark.parametrize(("kind", "made"), [("AikiWorkerPool", worker()), ("AikiServer", server.deployment(parsed(), SOURCES))])
def test_crds_refuse_the_variables_that_the_operator_sets(kind: str, made: Manifest) -> None:
    """Where it is typed, and not in a pod that does what it should not."""
    path = Path(__file__).parents[3] / "crds" / f"{kind.lower()}s.yaml"
    spec = yaml.safe_load(path.read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    (rule,) = spec["properties"]["env"]["x-kubernetes-validations"]
    assert set(re.findall("AIKI_[A-Z_]+", rule["rule"])) == FIXED & env(made).keys()
    assert set(re.findall("AIKI_[A-Z_]+", rule["message"])) == FIXED & env(made).keys()


@pytest.mark.parametrize(("grace", "drain"), [(None, "300"), (600, "300"), (330, "300"), (60, "30"), (10, "5"), (0, "0")])
def test_worker_drains_no_longer_than_it_is_let_live(grace: int | None, drain: str) -> None:
    template = {} if grace is None else {"spec": {"terminationGracePeriodSeconds": grace}}
    assert env(worker(template=template))["AIKI_GRACE_SECONDS"] == drain

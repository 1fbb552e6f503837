"""What users ask for, as values: defaults equal the CRDs', and what makes a build."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.spec.pool import CHOSEN, Versioning, parse_build, parse_pool
from aiki_operator.spec.server import DatabaseKind, DeletionPolicy, ManagedDatabase, SecretKey, parse_server
from support.operator.objects import pool_body, server_body

laws = settings(deadline=None, max_examples=50)  # a busy machine breaks no law

CRDS = Path(__file__).parents[3] / "crds"


@cache
def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CRDS / f"{name}.yaml").read_text())["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def defaulted(value: Any, schema: dict[str, Any]) -> Any:
    """What the API server makes of a value: the schema's defaults, all the way down."""
    if schema.get("type") == "object" and isinstance(value, dict):
        members = schema.get("properties", {})
        filled = {name: member["default"] for name, member in members.items() if "default" in member} | value
        return {name: defaulted(one, members[name]) if name in members else one for name, one in filled.items()}
    if schema.get("type") == "array":
        return [defaulted(one, schema["items"]) for one in value]
    return value


SECRET = {"secretRef": {"name": "s"}}


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"database": {"type": "External", "external": SECRET}, "redis": {"type": "External", "external": SECRET}},
        {"database": {"type": "CloudNativePG", "cloudNativePG": {"cluster": "main"}}, "auth": {"tokenSecretRef": {"name": "t"}}},
        {"database": {"managed": {}}, "redis": {"managed": {"storage": {}}}, "ingress": {"host": "h"}, "service": {"type": "NodePort"}},
    ],
)
def test_server_means_the_same_before_and_after_the_api_server_defaulted_it(spec: dict[str, Any]) -> None:
    body = server_body(**spec)
    assert parse_server(defaulted(body, schema("aikiservers")), default_image="i") == parse_server(body, default_image="i")


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"podDisruptionBudget": {}, "topologySpreadConstraints": [{"topologyKey": "rack"}]},
        {"autoscaling": {"backlogSeconds": 5}, "drain": {}, "imagePullSecrets": [{"name": "r"}]},
    ],
)
def test_pool_means_the_same_before_and_after_the_api_server_defaulted_it(spec: dict[str, Any]) -> None:
    body = pool_body(**spec)
    assert parse_pool(defaulted(body, schema("aikiworkerpools"))) == parse_pool(body)


def test_bare_server_is_managed_and_keeps_its_data() -> None:
    spec = parse_server(server_body(), default_image="example.com/aiki-server:1")
    assert (spec.image, spec.replicas, spec.database_kind) == ("example.com/aiki-server:1", 1, DatabaseKind.MANAGED)
    assert isinstance(spec.database, ManagedDatabase)
    assert (spec.database.image, spec.database.deletion) == ("postgres:17", DeletionPolicy.RETAIN)


def test_secrets_of_others_are_named_by_secret_and_key() -> None:
    one = parse_server(
        server_body(database={"type": "External", "external": {"secretRef": {"name": "pg", "key": "dsn"}}}), default_image="i"
    )
    other = parse_server(server_body(database={"type": "CloudNativePG", "cloudNativePG": {"cluster": "main"}}), default_image="i")
    assert (one.database, other.database) == (SecretKey("pg", "dsn"), SecretKey("main-app", "uri"))


def test_pool_is_named_after_its_object_unless_it_says_otherwise() -> None:
    assert (parse_pool(pool_body()).pool, parse_pool(pool_body(pool="shared")).pool) == ("onboarding", "shared")
    assert parse_pool(pool_body(versioning="Pinned")).versioning is Versioning.PINNED


# ---- builds -------------------------------------------------------------------------------------------------------

chosen = st.fixed_dictionaries(
    {"image": st.sampled_from(["a:1", "a:2"])},
    optional={
        "command": st.lists(st.sampled_from("ab"), max_size=2),
        "args": st.lists(st.sampled_from("ab"), max_size=2),
        "env": st.lists(st.fixed_dictionaries({"name": st.sampled_from("AB"), "value": st.text(max_size=2)}), max_size=2),
        "template": st.fixed_dictionaries({"spec": st.fixed_dictionaries({"priorityClassName": st.sampled_from("hl")})}),
    },
)
free = st.fixed_dictionaries(
    {},
    optional={
        "concurrency": st.integers(1, 99),
        "minReplicas": st.integers(0, 3),
        "maxReplicas": st.integers(3, 9),
        "replicas": st.integers(0, 3),
        "versioning": st.sampled_from(["ByVersion", "Pinned"]),
        "resources": st.just({"limits": {"cpu": "1"}}),
        "drain": st.just({"timeoutSeconds": 9}),
    },
)


@laws
@given(chosen, free, chosen, free)
def test_older_build_is_what_was_chosen_then_and_everything_else_as_now(
    then: dict[str, Any], around: dict[str, Any], now: dict[str, Any], today: dict[str, Any]
) -> None:
    old = parse_pool(pool_body(**then, **around))
    again = parse_build(pool_body(**now, **today), old.chosen, old.build)
    assert again.build == old.build
    assert {name: again.chosen.get(name) for name in CHOSEN} == {name: old.chosen.get(name) for name in CHOSEN}
    assert again.concurrency == parse_pool(pool_body(**now, **today)).concurrency


@laws
@given(chosen, free, free)
def test_size_and_limits_make_no_new_build(made: dict[str, Any], one: dict[str, Any], other: dict[str, Any]) -> None:
    assert parse_pool(pool_body(**made, **one)).build == parse_pool(pool_body(**made, **other)).build


@pytest.mark.parametrize(
    "change", [{"image": "b"}, {"args": ["x"]}, {"env": [{"name": "A", "value": "1"}]}, {"template": {"spec": {"nodeName": "n"}}}]
)
def test_every_member_that_a_pod_is_made_of_makes_a_new_build(change: dict[str, Any]) -> None:
    assert parse_pool(pool_body(**change)).build != parse_pool(pool_body()).build


def test_name_of_a_build_never_changes_with_the_operator() -> None:
    """Deployments in clusters carry these names: another digest would start everybody's pools anew."""
    body = pool_body(image="example.com/onboarding:1", args=["--verbose"], env=[{"name": "A", "value": "1"}], command=[])
    assert parse_pool(body).build == parse_pool(pool_body(args=["--verbose"], env=[{"value": "1", "name": "A"}])).build == "4e4f6f20f5"

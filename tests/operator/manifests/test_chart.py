"""CRDs and chart as files: what people read in them is there, and what the operator writes has a place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.metrics import MetricWrapperBase

from aiki_operator import names
from aiki_operator.manifests import secret
from aiki_operator.manifests.worker import deployment
from aiki_operator.plan.pool.plan import PoolMemory
from aiki_operator.plan.pool.plan import plan as plan_pool
from aiki_operator.plan.pool.progress import RolloutProgress, RolloutStage, status_of
from aiki_operator.plan.pool.state import LoadUnavailable, ObservedPool
from aiki_operator.process.app import WATCHED
from aiki_operator.reporting import telemetry
from aiki_operator.scaling.autoscale import ScalingPolicy
from aiki_operator.scaling.load import RolloutTrial
from aiki_operator.spec.pool import parse_pool
from aiki_operator.spec.server import parse_server
from aiki_operator.spec.steps import Gate, Rollout, RolloutStep, seconds
from support.operator.objects import pool_body, server_body

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "aiki"
CRDS = sorted((ROOT / "crds").glob("*.yaml"))

Json = dict[str, Any]


def crd(kind: str) -> Json:
    return next(one for one in map(read, CRDS) if one["spec"]["names"]["kind"] == kind)


@cache
def read(path: Path) -> Json:
    found: Json = yaml.safe_load(path.read_text())
    return found


def schema_of(kind: str) -> Json:
    found: Json = crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def fields(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every schema with its path, without Kubernetes' own metadata."""
    yield path, schema
    for name, member in schema.get("properties", {}).items():
        if f"{path}.{name}" != ".metadata":
            yield from fields(member, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from fields(schema["items"], f"{path}[]")


KINDS = ["AikiServer", "AikiWorkerPool"]


def test_chart_carries_the_crds_as_they_are() -> None:
    packed = sorted((CHART / "files" / "crds").glob("*.yaml"))
    assert [path.name for path in packed] == [path.name for path in CRDS]
    assert [path.read_bytes() for path in packed] == [path.read_bytes() for path in CRDS]


def for_helm(schema: Json) -> Json:
    """A structural schema as Helm reads it: Kubernetes' own words left out, and unknown members refused."""
    kept = {name: value for name, value in schema.items() if not name.startswith("x-kubernetes-") and name != "default"}
    if schema.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
    for name in ("items", "additionalProperties"):
        if isinstance(kept.get(name), dict):
            kept[name] = for_helm(kept[name])
    if "properties" in kept:
        kept["properties"] = {name: for_helm(member) for name, member in kept["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            kept["additionalProperties"] = False
    return kept


def test_values_schema_has_the_spec_of_the_server() -> None:
    """So that a wrong value is refused before anything is installed. AIKI_WRITE=1 writes it anew after a change of the CRD."""
    path = CHART / "values.schema.json"
    found = json.loads(path.read_text())
    wanted = for_helm(schema_of("AikiServer")["properties"]["spec"])
    if os.environ.get("AIKI_WRITE") == "1":
        found["properties"]["server"]["properties"]["spec"] = wanted
        path.write_text(json.dumps(found, indent=2) + "\n")
    assert found["properties"]["server"]["properties"]["spec"] == wanted


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_has_a_description(kind: str) -> None:
    assert [path for path, schema in fields(schema_of(kind)) if not schema.get("description", "").strip()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_has_a_message(kind: str) -> None:
    rules = [(path, rule) for path, schema in fields(schema_of(kind)) for rule in schema.get("x-kubernetes-validations", [])]
    assert rules
    assert [path for path, rule in rules if not rule.get("message", "").strip() or not rule["rule"].strip()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_strings_and_lists_that_users_write_are_bounded(kind: str) -> None:
    """CEL estimates the cost of a rule by these, and an object must fit into etcd."""
    spec = schema_of(kind)["properties"]["spec"]
    assert [path for path, schema in fields(spec) if schema.get("type") == "array" and "maxItems" not in schema] == []


@pytest.mark.parametrize("kind", KINDS)
def test_defaults_are_valid(kind: str) -> None:
    for path, schema in fields(schema_of(kind)):
        if "default" in schema:
            plain = {name: value for name, value in schema.items() if not name.startswith("x-")}
            assert jsonschema_rs.is_valid(plain, schema["default"]), path


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_people_type_make_valid_objects(kind: str) -> None:
    spec = crd(kind)["spec"]
    assert (spec["group"], spec["names"]["categories"], spec["scope"]) == ("aiki.dev", ["aiki"], "Namespaced")
    assert spec["names"]["shortNames"]
    assert crd(kind)["metadata"]["name"] == f"{spec['names']['plural']}.aiki.dev"
    assert WATCHED[kind] == ("aiki.dev", "v1alpha1", spec["names"]["plural"])
    version = spec["versions"][0]
    assert "status" in version["subresources"]
    assert {"Ready", "Reason", "Age"} <= {column["name"] for column in version["additionalPrinterColumns"]}


def test_kubectl_scale_reaches_what_the_plan_reads() -> None:
    paths = crd("AikiWorkerPool")["spec"]["versions"][0]["subresources"]["scale"]
    assert paths == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }


@pytest.mark.parametrize("kind", KINDS)
def test_columns_show_fields_that_exist(kind: str) -> None:
    known = {path for path, _ in fields(schema_of(kind))}
    for column in crd(kind)["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = re.sub(r"\[\?.*?\]", "[]", column["jsonPath"])
        assert path in known or path.startswith(".metadata."), column


def test_status_of_a_build_has_a_place() -> None:
    """A member that the schema lacks is cut off by the API server, and would be written anew each second."""
    spec = parse_pool(pool_body())
    made, _ = plan_pool(spec, ObservedPool((), LoadUnavailable(0, "ServerNotReady", ""), "c", None), PoolMemory(), 0.0)
    known = schema_of("AikiWorkerPool")["properties"]["status"]["properties"]["builds"]["items"]["properties"]
    assert {name for build in made.builds for name in build} | {"openRuns"} == set(known)


def test_status_of_a_roll_out_has_a_place() -> None:
    rollout = Rollout((RolloutStep(10, None),), Gate(5, 1))
    made = status_of(rollout, RolloutProgress("b", 1, 0.0, RolloutStage.HELD, 5), RolloutTrial("b", 10))
    known = schema_of("AikiWorkerPool")["properties"]["status"]["properties"]["rollout"]["properties"]
    assert set(made) == set(known)


def test_what_people_write_as_a_pause_is_read() -> None:
    spec = schema_of("AikiWorkerPool")["properties"]["spec"]["properties"]["rollout"]["properties"]["steps"]["items"]["properties"]["pause"]
    assert [text for text in ("90s", "10m", "1h30m", "2h", "1h1m1s") if not jsonschema_rs.is_valid(spec, text) or not seconds(text)] == []
    assert [text for text in ("", "10", "1d", "m", "1m1h", "ten") if jsonschema_rs.is_valid(spec, text)] == []


def test_defaults_of_the_autoscaler_are_those_of_the_pool() -> None:
    policy, spec = ScalingPolicy(0, 10, 10), parse_pool(pool_body())
    scaling = spec.autoscaling
    assert (policy.utilization, policy.backlog_seconds, policy.stabilization_seconds, policy.lead_seconds) == (
        scaling.utilization, scaling.backlog_seconds, scaling.stabilization_seconds, scaling.lead_seconds
    )  # fmt: skip


# ---- the chart ----------------------------------------------------------------------------------------------------

VALUES = read(CHART / "values.yaml")
SCHEMA: Json = json.loads((CHART / "values.schema.json").read_text())


def test_values_are_as_their_schema_says() -> None:
    assert [error.message for error in jsonschema_rs.validator_for(SCHEMA).iter_errors(VALUES)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"operatr": {}},
        {"operator": {"replicas": 0}},
        {"operator": {"logLevel": "loud"}},
        {"operator": {"namespaces": ["Shop"]}},
        {"server": {"name": "a" * 41}},
        {"server": {"create": "yes"}},
        {"images": {"registry": ""}},
        {"serviceMonitor": {"interval": "often"}},
        {"server": {"name": "aiki-redis"}},
        {"server": {"spec": {"replicas": "two"}}},
        {"server": {"spec": {"databse": {}}}},
    ],
)
def test_mistakes_in_values_are_refused(wrong: Json) -> None:
    assert not jsonschema_rs.is_valid(SCHEMA, wrong)


def described(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """The chart's own values: what is in the server's spec is the CRD's."""
    for name, member in schema.get("properties", {}).items():
        own = {key: value for key, value in member.items() if key != "properties"} if f"{path}.{name}" == ".server.spec" else member
        yield f"{path}.{name}", own
        yield from described(own, f"{path}.{name}")


def test_every_value_is_described_and_every_described_value_is_there() -> None:
    known = dict(described(SCHEMA))
    assert [path for path, member in known.items() if "description" not in member and path != ".global"] == []

    def paths(value: Any, path: str = "") -> Iterator[str]:
        for name, member in value.items():
            yield f"{path}.{name}"
            if f"{path}.{name}" in known and "properties" in known[f"{path}.{name}"]:
                yield from paths(member, f"{path}.{name}")

    assert set(paths(VALUES)) == set(known) - {".global"}


def test_every_value_is_used_and_every_used_value_is_known() -> None:
    text = "".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))
    used = set(re.findall(r"\.Values((?:\.[A-Za-z]+)+)", text))
    known = dict(described(SCHEMA))
    leaves = {path for path, member in known.items() if "properties" not in member} - {".global"}
    assert {path for path in leaves if not any(one == path or path.startswith(one) for one in used)} == set()
    assert {path for path in used if path not in known and path.rsplit(".", 1)[0] not in known} == set()


def test_monitors_of_workers_find_their_port_their_labels_and_the_key_of_their_secret() -> None:
    spec = parse_pool(pool_body())
    template = (CHART / "templates" / "podmonitor.yaml").read_text()
    pod = deployment(spec, replicas=1, config="")["spec"]["template"]
    (port,) = pod["spec"]["containers"][0]["ports"]
    assert re.findall(r"- port: (\w+)", template) == [port["name"]]
    secret_of_worker = secret.worker(parse_server(server_body(), default_image="i"), "t")["data"]
    assert set(re.findall(r"key: (AIKI_\w+)", template)) == {"AIKI_METRICS_TOKEN"} <= set(secret_of_worker)
    assert {names.worker_secret("x"), names.pool_secret("x")} == {
        form % "x" for form in re.findall(r'"secret" \(printf "(%s-\w+)"', template)
    }
    marks = pod["metadata"]["labels"]
    assert (marks["app.kubernetes.io/name"], marks["app.kubernetes.io/component"]) == ("aiki", "worker")
    asked = set(re.findall(r"aiki\.dev/[a-z-]+", template))
    assert asked == {names.SERVER_LABEL, names.SERVER_NAMESPACE_LABEL, names.POOL_LABEL}
    assert {names.SERVER_LABEL, names.POOL_LABEL} <= set(marks)
    for label, target in re.findall(r"__meta_kubernetes_pod_label_(\w+)\], targetLabel: (\w+)", template):
        assert label == f"aiki_dev_{target}"
        assert f"aiki.dev/{target}" in marks


def test_the_document_has_the_figures_of_the_operator() -> None:
    declared = (one for one in vars(telemetry).values() if isinstance(one, MetricWrapperBase))
    wanted = {
        f"| `{metric.name}{'_total' if metric.type == 'counter' else ''}` | {metric.type} | {' '.join(f'`{label}`' for label in one._labelnames)} | {metric.documentation} |"
        for one in declared
        for metric in one.describe()
    }
    document = (ROOT / "docs/reference/metrics.md").read_text()
    table = document.split("## Of the operator")[1].split("## ")[0]
    assert {line for line in table.splitlines() if line.startswith("| `")} == wanted


def test_metrics_that_alerts_ask_for_exist_and_each_alert_says_what_to_do() -> None:
    assert telemetry.LEADER is not None  # importing it declares them
    exported = set(re.findall(r"^# TYPE (\S+)", generate_latest().decode(), re.MULTILINE))
    document = (ROOT / "docs/reference/metrics.md").read_text()
    exported |= set(re.findall(r"^\| `(aiki_[a-z_]+)` \|", document, re.MULTILINE))  # the server's, which its own test holds against it
    rules = (CHART / "templates" / "monitoring.yaml").read_text()
    asked = set(re.findall(r"aiki_[a-z_]+", rules))
    assert asked
    assert asked <= exported
    alerts = re.findall(r"- alert: (\w+)", rules)
    assert alerts
    assert [alert for alert in alerts if f"* `{alert}`: " not in document] == []

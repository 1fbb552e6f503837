"""What a template may ask for. The rules are those of Kubernetes' restricted standard, so each is tried with what it forbids and allows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiki_operator.manifests import worker
from aiki_operator.manifests.pods.policy import TemplateGuard
from aiki_operator.spec.pool import parse_pool
from support.operator.objects import pool_body

OPERATORS = TemplateGuard(frozenset({("shop", "aiki-operator")}))


def found(template: dict[str, Any], *, guard: TemplateGuard = OPERATORS) -> list[str]:
    """What is wrong with the pods of a pool with this template."""
    manifest = worker.deployment(parse_pool(pool_body(template=template)), replicas=1, config="c")
    return [text.partition(":")[0].removeprefix("spec.template.spec.") for text in guard.violations(manifest)]


def container(**members: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "worker", **members}]}}


def security(**members: Any) -> dict[str, Any]:
    return container(securityContext=members)


FORBIDDEN = [
    ({"spec": {"hostNetwork": True}}, "hostNetwork"),
    ({"spec": {"hostPID": True}}, "hostPID"),
    ({"spec": {"hostIPC": True}}, "hostIPC"),
    ({"spec": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}}, "volumes[1].hostPath"),
    ({"spec": {"volumes": [{"name": "n", "nfs": {"server": "s", "path": "/"}}]}}, "volumes[1].nfs"),
    ({"spec": {"serviceAccountName": "aiki-operator"}}, "serviceAccountName"),
    ({"spec": {"serviceAccount": "aiki-operator"}}, "serviceAccount"),
    ({"spec": {"securityContext": {"runAsUser": 0}}}, "securityContext.runAsUser"),
    ({"spec": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}}, "securityContext.sysctls[0]"),
    ({"spec": {"securityContext": {"seLinuxOptions": {"type": "spc_t"}}}}, "securityContext.seLinuxOptions"),
    ({"spec": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}}, "securityContext.seccompProfile.type"),
    ({"spec": {"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}}, "securityContext.appArmorProfile.type"),
    ({"spec": {"securityContext": {"windowsOptions": {"hostProcess": True}}}}, "securityContext.windowsOptions.hostProcess"),
    (security(privileged=True), "containers[0].securityContext.privileged"),
    (security(allowPrivilegeEscalation=True), "containers[0].securityContext.allowPrivilegeEscalation"),
    (security(allowPrivilegeEscalation=None), "containers[0].securityContext.allowPrivilegeEscalation"),
    (security(runAsNonRoot=False), "containers[0].securityContext.runAsNonRoot"),
    (security(runAsUser=0), "containers[0].securityContext.runAsUser"),
    (security(procMount="Unmasked"), "containers[0].securityContext.procMount"),
    (security(capabilities={"add": ["SYS_ADMIN"]}), "containers[0].securityContext.capabilities.add"),
    (security(capabilities={"drop": ["NET_RAW"]}), "containers[0].securityContext.capabilities.drop"),
    (container(securityContext=None), "containers[0].securityContext.allowPrivilegeEscalation"),
    (container(ports=[{"name": "p", "containerPort": 1, "hostPort": 80}]), "containers[0].ports[1].hostPort"),
    (container(livenessProbe={"httpGet": {"host": "169.254.169.254"}}), "containers[0].livenessProbe.httpGet.host"),
    (container(lifecycle={"postStart": {"tcpSocket": {"host": "db", "port": 1}}}), "containers[0].lifecycle.postStart.tcpSocket.host"),
    ({"spec": {"containers": [{"name": "side", "image": "i"}]}}, "containers[1].securityContext.allowPrivilegeEscalation"),
    ({"spec": {"initContainers": [{"name": "first", "image": "i"}]}}, "initContainers[0].securityContext.capabilities.drop"),
]


@pytest.mark.parametrize(("template", "path"), FORBIDDEN, ids=[path for _, path in FORBIDDEN])
def test_template_that_asks_for_more_is_refused_with_the_path(template: dict[str, Any], path: str) -> None:
    assert path in found(template)


@pytest.mark.parametrize(("template", "path"), FORBIDDEN, ids=[path for _, path in FORBIDDEN])
def test_unsafe_templates_may_ask_for_anything_but_the_operators_own_account(template: dict[str, Any], path: str) -> None:
    left = found(template, guard=TemplateGuard(OPERATORS.service_accounts, unsafe=True))
    assert left == ([path] if path.startswith("serviceAccount") else [])


SAFE = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}
ALLOWED: list[dict[str, Any]] = [
    {},
    {"spec": {"serviceAccountName": "mine", "nodeSelector": {"a": "b"}, "hostUsers": False, "priorityClassName": "low"}},
    {"spec": {"volumes": [{"name": "s", "secret": {"secretName": "x"}}, {"name": "c", "ephemeral": {}}, {"name": "e", "emptyDir": None}]}},
    {"spec": {"securityContext": {"runAsUser": 1000, "seLinuxOptions": {"level": "s0:c1"}, "sysctls": [{"name": "net.ipv4.tcp_rmem"}]}}},
    {"spec": {"containers": [{"name": "side", "image": "i", "securityContext": SAFE}]}},
    container(livenessProbe={"httpGet": {"path": "/x", "port": 1}}, resources={"limits": {"cpu": "1"}}),
]


@pytest.mark.parametrize("template", ALLOWED)
def test_template_within_the_standard_is_taken(template: dict[str, Any]) -> None:
    assert found(template) == []


def test_account_of_the_same_name_in_another_namespace_is_somebody_elses() -> None:
    assert (
        found({"spec": {"serviceAccountName": "aiki-operator"}}, guard=TemplateGuard(frozenset({("aiki-system", "aiki-operator")}))) == []
    )


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
    st.sampled_from(["containers", "securityContext", "volumes", "ports", "capabilities", "drop", "sysctls", "lifecycle", "name", "x"]), inner, max_size=4
), max_leaves=20)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["containers", "initContainers", "securityContext", "volumes", "x"]), JSON, max_size=4))
def test_template_of_any_shape_is_read_without_an_error(spec: dict[str, Any]) -> None:
    """What is no pod at all is for the API server to refuse, in its own words."""
    TemplateGuard().violations({"metadata": {"namespace": "shop"}, "spec": {"template": {"spec": spec}}})

"""What a user's template may ask of a pod: no more than the *restricted* Pod Security Standard allows.

Whoever may write an AikiServer or an AikiWorkerPool needs no right to create pods, because the operator creates them.
So the operator is what stands between a template and the node: without this check, a template that mounts the host's
disk, or that runs as the operator's own service account, would hand the operator's rights to everybody who may write a
pool. A namespace that enforces Pod Security refuses most of it as well; this check holds in every other one too.

The rules are those of https://kubernetes.io/docs/concepts/security/pod-security-standards/ (restricted), for pods on
Linux, and one of our own: the service account of the operator belongs to the operator. `operator.allowUnsafeTemplates`
of the chart switches the check off, except for that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]

VOLUMES = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret", "name"}
)
"""The kinds of volume that the restricted standard allows, and the member that names a volume."""
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"})
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ping_group_range",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.tcp_wmem",
    }
)
SECCOMP = frozenset({"RuntimeDefault", "Localhost"})
APPARMOR_NOTE = "container.apparmor.security.beta.kubernetes.io/"
APPARMOR = frozenset({"RuntimeDefault", "Localhost"})


@dataclass(frozen=True, slots=True)
class TemplateGuard:
    """Which templates this operator takes. Made once, from the environment of the process.

    `service_accounts` are those of the operator's own release, as (namespace, name).
    """

    service_accounts: frozenset[tuple[str, str]] = frozenset()
    unsafe: bool = False

    def violations(self, manifest: Json) -> tuple[str, ...]:
        """What a workload's pod template must not ask for, each as a path and the reason; empty where there is nothing.

        >>> pod = {"spec": {"hostNetwork": True, "containers": []}}
        >>> Guard().violations({"metadata": {"namespace": "a"}, "spec": {"template": pod}})[0]
        'spec.template.spec.hostNetwork: must be false'
        """
        template = manifest.get("spec", {}).get("template")
        if not isinstance(template, Mapping):
            return ()
        spec = _map(template, "spec")
        found = list(self._service_account(manifest["metadata"]["namespace"], spec))
        if not self.unsafe:
            found += _restricted(_map(template, "metadata"), spec)
        return tuple(f"spec.template.{text}" for text in found)

    def _service_account(self, namespace: str, spec: Json) -> Iterator[str]:
        for member in ("serviceAccountName", "serviceAccount"):
            if (namespace, str(spec.get(member))) in self.service_accounts:
                yield f"spec.{member}: {spec[member]} is the operator's own service account; make one for these pods"


def _restricted(meta: Json, spec: Json) -> Iterator[str]:
    for member in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(member):
            yield f"spec.{member}: must be false"
    yield from _volumes(spec)
    yield from _annotations(meta)
    pod = _map(spec, "securityContext")
    yield from _context("spec.securityContext", pod)
    for index, sysctl in enumerate(_maps(pod, "sysctls")):
        if str(sysctl.get("name")) not in SYSCTLS:
            yield f"spec.securityContext.sysctls[{index}]: {sysctl.get('name')} is not one of the safe ones"
    for kind in CONTAINERS:
        for index, container in enumerate(_maps(spec, kind)):
            yield from _privileges(f"spec.{kind}[{index}].securityContext", _map(container, "securityContext"), pod)
            yield from _doors(f"spec.{kind}[{index}]", container)


def _volumes(spec: Json) -> Iterator[str]:
    for index, volume in enumerate(_maps(spec, "volumes")):
        for kind in sorted(set(volume) - VOLUMES):
            yield f"spec.volumes[{index}].{kind}: volumes of this kind reach beyond the pod"


def _annotations(meta: Json) -> Iterator[str]:
    for name, value in _map(meta, "annotations").items():
        if name.startswith(APPARMOR_NOTE) and not str(value).startswith(("runtime/default", "localhost/")):
            yield f"metadata.annotations[{name}]: must be runtime/default or localhost/*"


def _privileges(path: str, context: Json, pod: Json) -> Iterator[str]:
    """What a container may not ask for, and what it must give up: itself, or through the pod."""
    yield from _context(path, context)
    if context.get("privileged"):
        yield f"{path}.privileged: must be false"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{path}.allowPrivilegeEscalation: must be false"
    if context.get("procMount", "Default") != "Default":
        yield f"{path}.procMount: must be Default"
    if not context.get("runAsNonRoot", pod.get("runAsNonRoot")):
        yield f"{path}.runAsNonRoot: must be true"
    if not (_map(context, "seccompProfile") or _map(pod, "seccompProfile")):
        yield f"{path}.seccompProfile: must be RuntimeDefault or Localhost"
    capabilities = _map(context, "capabilities")
    if "ALL" not in _words(capabilities, "drop"):
        yield f"{path}.capabilities.drop: must have ALL"
    if extra := sorted(set(_words(capabilities, "add")) - {"NET_BIND_SERVICE"}):
        yield f"{path}.capabilities.add: must not have {', '.join(extra)}"


def _doors(path: str, container: Json) -> Iterator[str]:
    """Ports of the node; and probes and hooks that name a host, by which the kubelet would knock at doors that the pod cannot reach."""
    for index, port in enumerate(_maps(container, "ports")):
        if port.get("hostPort"):
            yield f"{path}.ports[{index}].hostPort: must not be set"
    handlers = [(member, _map(container, member)) for member in ("livenessProbe", "readinessProbe", "startupProbe")]
    handlers += [(f"lifecycle.{member}", _map(_map(container, "lifecycle"), member)) for member in ("postStart", "preStop")]
    for name, handler in handlers:
        for action in ("httpGet", "tcpSocket"):
            if _map(handler, action).get("host"):
                yield f"{path}.{name}.{action}.host: must not be set"


def _context(path: str, context: Json) -> Iterator[str]:
    """The rules that a pod's security context and a container's share."""
    if context.get("runAsUser") == 0:
        yield f"{path}.runAsUser: must not be 0"
    if context.get("runAsNonRoot") is False:
        yield f"{path}.runAsNonRoot: must be true"
    if _map(context, "windowsOptions").get("hostProcess"):
        yield f"{path}.windowsOptions.hostProcess: must be false"
    selinux = _map(context, "seLinuxOptions")
    if str(selinux.get("type", "")) not in SELINUX_TYPES or selinux.get("user") or selinux.get("role"):
        yield f"{path}.seLinuxOptions: user and role must be absent, and type one of {', '.join(sorted(SELINUX_TYPES - {''}))}"
    for member, allowed in (("seccompProfile", SECCOMP), ("appArmorProfile", APPARMOR)):
        profile = _map(context, member)
        if profile and str(profile.get("type")) not in allowed:
            yield f"{path}.{member}.type: must be one of {', '.join(sorted(allowed))}"


def _maps(value: Json, member: str) -> list[Json]:
    """The maps of a list; what should be one and is not is for the API server to refuse."""
    found = value.get(member)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _words(value: Json, member: str) -> list[str]:
    found = value.get(member)
    return [item for item in found if isinstance(item, str)] if isinstance(found, list) else []


def _map(value: Json, member: str) -> Json:
    found = value.get(member)
    return found if isinstance(found, Mapping) else {}


GUARD = TemplateGuard()
"""For an operator without a chart, on a developer's machine: no service account of its own, and no unsafe template."""

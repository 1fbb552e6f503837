"""Whether an object must be written: nothing is, when nothing changed.

An object is as it should be when it carries the digest of the manifest we would apply (so a field we gave up is
noticed), and every field of the manifest is there with its value (so a stranger's change is noticed). The API server
adds defaults and writes quantities its own way, and strangers add things of other names; none of that counts.

An admission webhook may change what we set. What the API server made of a manifest is remembered as `Taken`: as long as
the object stands as it was answered, writing the same manifest again would change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiki_operator.manifests.pods.merge import key_of
from aiki_operator.manifests.pods.quantity import quantity
from aiki_operator.names import APPLIED, digest


def marked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with its digest in an annotation; the size of a Deployment is not part of the digest."""
    spec = {name: value for name, value in manifest.get("spec", {}).items() if name != "replicas"}
    mark = digest({**manifest, "spec": spec}, length=16)
    meta = manifest["metadata"]
    return {**manifest, "metadata": {**meta, "annotations": {**meta.get("annotations", {}), APPLIED: mark}}}


@dataclass(frozen=True, slots=True)
class AdmittedManifest:
    """What the API server made of a manifest, where that is not what the manifest says."""

    what: tuple[str, Any]
    """Which manifest: see `identity`."""
    made: Any
    """The manifest's own fields, with the values that they have got."""


def identity(manifest: Mapping[str, Any]) -> tuple[str, Any]:
    """What tells a marked manifest from every other one of the same object: its digest and the size that it asks for."""
    return manifest["metadata"]["annotations"][APPLIED], manifest.get("spec", {}).get("replicas")


def admitted(written: Mapping[str, Any], manifest: Mapping[str, Any]) -> AdmittedManifest | None:
    """What to remember of the API server's answer to a manifest; None if it was taken as it is."""
    return None if covers(written, content(manifest)) else AdmittedManifest(identity(manifest), project(written, content(manifest)))


def must_write(live: Mapping[str, Any] | None, manifest: Mapping[str, Any], known: AdmittedManifest | None = None) -> bool:
    """Whether `manifest` (marked) has to be applied over what is there; `known` is what the API server made of it before."""
    if live is None:
        return True
    wanted = content(manifest)
    if covers(live, wanted):
        return False
    return known is None or known.what != identity(manifest) or project(live, wanted) != known.made


def differences(live: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """The paths of the fields in `wanted` that `live` has otherwise."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        for name, value in wanted.items():
            if not covers(live.get(name), value):
                yield from differences(live.get(name), value, f"{path}.{name}" if path else name)
    elif isinstance(wanted, list) and isinstance(live, list) and (key := _key(live, wanted)):
        named = {item[key]: item for item in live}
        for item in wanted:
            if item[key] not in named or not covers(named[item[key]], item):
                yield from differences(named.get(item[key]), item, f"{path}[{item[key]}]")
    else:
        yield path


def project(live: Any, wanted: Any) -> Any:
    """The fields of `live` that `wanted` speaks of."""
    if isinstance(wanted, dict) and isinstance(live, dict):
        return {name: project(live.get(name), value) for name, value in wanted.items()}
    if isinstance(wanted, list) and isinstance(live, list) and (key := _key(live, wanted)):
        named = {item[key]: item for item in live}
        return [project(named.get(item[key]), item) for item in wanted]
    return live


def content(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What a manifest says of its object."""
    return {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind")}


def covers(live: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` is in `live`, which may have more."""
    if isinstance(wanted, dict):
        if not isinstance(live, dict):
            return not wanted and live is None
        return all(covers(live.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        if not isinstance(live, list):
            return not wanted and live is None
        if key := _key(live, wanted):
            named = {item[key]: item for item in live}
            return all(item[key] in named and covers(named[item[key]], item) for item in wanted)
        return len(live) == len(wanted) and all(covers(have, want) for have, want in zip(live, wanted, strict=True))
    return bool(live == wanted) or _same_quantity(live, wanted) or (live is None and wanted in (False, ""))


def _key(live: list[Any], wanted: list[Any]) -> str | None:
    """The member that tells the items of both lists apart; two of one name are told apart by their places (a gateway's listeners)."""
    key = key_of(live + wanted)
    return key if key is not None and all(len({one[key] for one in items}) == len(items) for items in (live, wanted)) else None


def _same_quantity(one: Any, other: Any) -> bool:
    first, second = quantity(one), quantity(other)
    return first is not None and first == second

"""What a user chose for a build, as its Deployment's annotation keeps it: without the values of environment variables.

A build that the pool has moved on from is written again now and then (its size changes), so the operator must know what
was chosen for it. Everybody who may see a Deployment's metadata sees its annotations, and tools copy them into logs; a
value may be a password. The values are in the pod template anyway, which is where `revealed` finds them again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Json = Mapping[str, Any]

CONTAINER = "worker"
"""The container that the members of a pool's spec are about."""


def hidden(chosen: Json) -> str:
    """The choice as text, without values of variables.

    >>> hidden({"image": "i", "env": [{"name": "PASSWORD", "value": "hunter2"}]})
    '{"env":[{"name":"PASSWORD","value":null}],"image":"i"}'
    """
    kept = _with_variables(chosen, lambda _, variable: {**variable, "value": None} if "value" in variable else variable)
    return json.dumps(kept, sort_keys=True, separators=(",", ":"))


def revealed(text: str, pod: Json) -> dict[str, Any]:
    """The choice, with the values that the Deployment's pod spec has."""
    live = {
        (container["name"], variable["name"]): variable.get("value", "")
        for kind in ("initContainers", "containers")
        for container in pod.get(kind) or ()
        for variable in container.get("env") or ()
    }

    def value(container: str, variable: Json) -> Json:
        hides = "value" in variable and variable["value"] is None
        return {**variable, "value": live.get((container, variable["name"]), "")} if hides else variable

    return _with_variables(json.loads(text), value)


def _with_variables(chosen: Json, change: Callable[[str, Json], Json]) -> dict[str, Any]:
    """The choice with each variable changed; `change` gets the container's name and the variable."""
    found = dict(chosen)
    if "env" in found:
        found["env"] = [change(CONTAINER, variable) for variable in found["env"]]
    template = found.get("template") or {}
    spec = template.get("spec") if isinstance(template, Mapping) else None
    if isinstance(spec, Mapping):
        containers = {
            kind: [_of_container(one, change) for one in spec[kind]] for kind in ("initContainers", "containers") if _listed(spec, kind)
        }
        found["template"] = {**template, "spec": {**spec, **containers}}
    return found


def _listed(spec: Json, kind: str) -> bool:
    return isinstance(spec.get(kind), list)


def _of_container(container: Any, change: Callable[[str, Json], Json]) -> Any:
    """A user's template may hold anything here; what is no container is left for the API server to refuse."""
    if not isinstance(container, Mapping) or not isinstance(container.get("env"), list):
        return container
    name = str(container.get("name", ""))
    return {**container, "env": [change(name, one) if isinstance(one, Mapping) and "name" in one else one for one in container["env"]]}

"""The annotation that keeps what was chosen for a build has no value of a variable in it, and the build is found again whole."""

from __future__ import annotations

from typing import Any

import pytest

from aiki_operator.manifests import worker
from aiki_operator.manifests.choice import hidden, revealed
from aiki_operator.names import BUILD_LABEL, BUILD_SPEC_ANNOTATION
from aiki_operator.spec.pool import parse_build, parse_pool
from support.operator.objects import pool_body

SECRET = {"name": "PASSWORD", "value": "hunter2"}
TEMPLATE = {
    "spec": {
        "containers": [{"name": "worker", "env": [{"name": "SECOND", "value": "hunter3"}]}, {"name": "side", "env": [SECRET]}],
        "initContainers": [{"name": "first", "image": "i", "env": [SECRET, {"name": "EMPTY", "value": ""}]}],
    }
}


@pytest.mark.parametrize(
    "chosen",
    [
        {"env": [SECRET, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, {"name": "EMPTY", "value": ""}]},
        {"template": TEMPLATE},
        {"env": [SECRET], "template": TEMPLATE, "args": ["serve"]},
        {"template": {"spec": {"containers": "no list"}}},
    ],
)
def test_build_is_found_again_from_a_note_without_values(chosen: dict[str, Any]) -> None:
    body = pool_body(**chosen)
    spec = parse_pool(body)
    if chosen.get("template", {}).get("spec", {}).get("containers") == "no list":
        note = hidden(spec.chosen)
        assert revealed(note, {}) == spec.chosen
        return
    manifest = worker.deployment(spec, replicas=1, config="c")
    note = manifest["metadata"]["annotations"][BUILD_SPEC_ANNOTATION]
    assert "hunter" not in note
    again = parse_build(
        pool_body(image="example.com/onboarding:2"),
        revealed(note, manifest["spec"]["template"]["spec"]),
        manifest["metadata"]["labels"][BUILD_LABEL],
    )
    assert worker.deployment(again, replicas=1, config="c") == manifest

"""Nothing is written when nothing changed: what counts as a change, and what does not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiki_operator.manifests.pods.merge import merge
from aiki_operator.names import APPLIED, digest
from aiki_operator.plan.difference import covers, marked, must_write

laws = settings(deadline=None, max_examples=60)  # a busy machine breaks no law

MANIFEST: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "d", "namespace": "shop", "labels": {"a": "b"}},
    "spec": {
        "replicas": 2,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "worker",
                        "resources": {"limits": {"cpu": "0.5", "memory": "1Gi"}},
                        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                        "args": ["-c", "x"],
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
                "automountServiceAccountToken": False,
            }
        },
    },
}


def live(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the API server makes of it: defaults, its own spelling of quantities, a status."""
    found = copy.deepcopy(marked(manifest))
    found["metadata"] |= {"uid": "1", "resourceVersion": "7", "generation": 1}
    container(found)["imagePullPolicy"] = "IfNotPresent"
    container(found)["resources"]["limits"] = {"cpu": "500m", "memory": "1024Mi"}
    found["spec"]["template"]["spec"]["dnsPolicy"] = "ClusterFirst"
    return {**found, "status": {"replicas": 2}}


def container(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = body["spec"]["template"]["spec"]["containers"][0]
    return found


def test_what_is_not_there_is_written() -> None:
    assert must_write(None, marked(MANIFEST))


def test_defaults_and_spelling_are_no_change() -> None:
    assert not must_write(live(MANIFEST), marked(MANIFEST))


def test_field_that_we_gave_up_is_noticed() -> None:
    less = copy.deepcopy(MANIFEST)
    del less["metadata"]["labels"]
    assert must_write(live(MANIFEST), marked(less))


@pytest.mark.parametrize("replicas", [0, 3])
def test_size_is_a_change_though_not_part_of_the_digest(replicas: int) -> None:
    other = {**MANIFEST, "spec": {**MANIFEST["spec"], "replicas": replicas}}
    assert marked(other)["metadata"]["annotations"][APPLIED] == marked(MANIFEST)["metadata"]["annotations"][APPLIED]
    assert must_write(live(MANIFEST), marked(other))


def test_change_by_a_stranger_is_noticed() -> None:
    body = live(MANIFEST)
    container(body)["env"][0]["value"] = "3"
    assert must_write(body, marked(MANIFEST))
    removed = live(MANIFEST)
    container(removed)["env"].pop()
    assert must_write(removed, marked(MANIFEST))
    arguments = live(MANIFEST)
    container(arguments)["args"].append("y")
    assert must_write(arguments, marked(MANIFEST))


def test_addition_by_a_stranger_is_not_fought_over() -> None:
    """Server-side apply leaves it where it is, so writing again and again would change nothing."""
    body = live(MANIFEST)
    container(body)["env"].insert(0, {"name": "HTTP_PROXY", "value": "http://proxy"})
    container(body)["volumeMounts"].append({"name": "certificates", "mountPath": "/etc/ssl"})
    body["spec"]["template"]["spec"]["volumes"].insert(0, {"name": "certificates", "configMap": {"name": "ca"}})
    body["spec"]["template"]["spec"]["containers"].append({"name": "proxy", "image": "proxy:1"})
    assert not must_write(body, marked(MANIFEST))


def test_absent_and_empty_are_the_same() -> None:
    assert covers({}, {"a": {}, "b": [], "c": False, "d": ""})
    assert not covers({}, {"a": {"b": 1}})
    assert not covers({}, {"a": [1]})
    assert not covers({"a": 1}, {"a": [1]})


@pytest.mark.parametrize(
    ("one", "other", "same"), [("1", 1, True), ("1Gi", "1024Mi", True), ("1G", "1Gi", False), ("0.1", "100m", True), (True, "1", False)]
)
def test_quantities_compare_by_value(one: Any, other: Any, same: bool) -> None:
    assert covers(one, other) is same


json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.sampled_from(["", "a", "1Gi"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@laws
@given(json)
def test_everything_covers_itself(value: Any) -> None:
    assert covers(value, value)


@laws
@given(st.dictionaries(st.sampled_from("abcdef"), json), json)
def test_what_is_added_is_still_covered(wanted: dict[str, Any], more: Any) -> None:
    assert covers({**wanted, "stranger": more}, wanted)


@laws
@given(st.dictionaries(st.text(max_size=3), st.integers(), max_size=6))
def test_digest_does_not_depend_on_the_order_of_members(value: dict[str, int]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))


# ---- a user's template over ours ----------------------------------------------------------------------------------


def test_maps_merge_and_named_things_merge_by_name() -> None:
    ours = {"a": 1, "containers": [{"name": "worker", "image": "i", "env": [{"name": "A", "value": "1"}]}, {"name": "other"}]}
    theirs = {"containers": [{"name": "sidecar"}, {"name": "worker", "env": [{"name": "B", "value": "2"}, {"name": "A", "value": "3"}]}]}
    assert merge(ours, theirs) == {
        "a": 1,
        "containers": [
            {"name": "worker", "image": "i", "env": [{"name": "A", "value": "3"}, {"name": "B", "value": "2"}]},
            {"name": "other"},
            {"name": "sidecar"},
        ],
    }


def test_two_mounts_of_one_volume_are_both_kept() -> None:
    """What tells mounts apart is where they are mounted, not what."""
    ours = [{"name": "tmp", "mountPath": "/tmp"}]
    theirs = [{"name": "data", "mountPath": "/in", "subPath": "in"}, {"name": "data", "mountPath": "/out", "subPath": "out"}]
    assert merge(ours, theirs) == [*ours, *theirs]


def test_plain_lists_are_replaced_and_null_removes() -> None:
    assert merge({"args": ["a"], "b": 1, "c": {"d": 1}}, {"args": ["z"], "b": None, "c": {"d": None}}) == {"args": ["z"], "c": {}}


@laws
@given(json, json.filter(lambda value: "None" not in repr(value)))
def test_merge_changes_neither_side_and_twice_is_once(ours: Any, theirs: Any) -> None:
    before = copy.deepcopy((ours, theirs))
    once = merge(ours, theirs)
    assert (ours, theirs) == before
    assert merge(once, theirs) == once

"""I46: what conditions, events and logs keep of the words of others."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from aiki_operator.plan.pods import not_created, refused, trouble
from aiki_operator.reporting.hiding import hiding, last_words, unquoted
from support.operator.objects import container, ended, pod_object

SECRET = "hunter22"


def with_variable(value: str) -> dict[str, Any]:
    return {"containers": [{"name": "worker", "env": [{"name": "P", "value": value}, {"name": "Q", "valueFrom": {}}]}]}


@pytest.mark.parametrize(
    "manifest",
    [
        {"kind": "Deployment", "spec": {"template": {"spec": with_variable(SECRET)}}},
        {"kind": "AikiServer", "spec": {"database": {"managed": {"template": {"spec": with_variable(SECRET)}}}}},
        {"kind": "AikiWorkerPool", "spec": {"env": [{"name": "P", "value": SECRET}]}},
        {"kind": "Secret", "data": {"a": b64encode(SECRET.encode()).decode(), "b": b64encode(b"\xff").decode()}},
        {"kind": "Secret", "stringData": {"a": SECRET}},
    ],
)
def test_values_of_an_object_are_hidden_in_what_is_said_of_it(manifest: dict[str, Any]) -> None:
    hide = hiding(manifest)
    said = f"denied: {SECRET}, {b64encode(SECRET.encode()).decode()}, postgresql://u:other@h/d and P"
    assert hide(said) == "denied: ***, ***, postgresql://***@h/d and P"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (
            ".a.env[0].value: expected string, got &value.valueUnstructured{Value:1234}",
            ".a.env[0].value: expected string, got something else",
        ),
        (
            "a: expected map, got &[1]; b: expected list, got &{2}",
            "a: expected map, got something else; b: expected list, got something else",
        ),
        ("a: Invalid value: 1234: must be text", "a: Invalid value: ***: must be text"),
        ('a: Invalid value: []core.EnvVar{core.EnvVar{Value: "1"}}: no', "a: Invalid value: ***: no"),
        ('a: Invalid value: {"env":[{"value":"1"}]}: no', "a: Invalid value: ***: no"),
        ('a: Invalid value: "Bad Name": a lowercase name', 'a: Invalid value: "Bad Name": a lowercase name'),
        ('a: Invalid value: "integer": must be of type string', 'a: Invalid value: "integer": must be of type string'),
    ],
)
def test_value_that_is_too_short_to_look_for_is_hidden_by_where_it_stands(said: str, kept: str) -> None:
    assert unquoted(said) == kept


@pytest.mark.parametrize(
    ("message", "container_name", "kept"),
    [
        (None, "worker", ""),
        ("\n", "worker", ""),
        ("cannot charge 4111", "worker", ""),
        ('{"card": "4111"}', "worker", ""),
        ('["4111"]', "worker", ""),
        ("ValueError", "worker", "ValueError"),
        ("shop.errors.CardError: 4111", "worker", "shop.errors.CardError"),
        ("ModuleNotFoundError: No module named 'shop'", "worker", "ModuleNotFoundError: No module named 'shop'"),
        ('{"event": "no server yet", "error": "ServerUnreachable: away"}', "worker", "no server yet: ServerUnreachable: away"),
        ('{"event": "failed", "traceback": "Traceback\\n  File\\nValueError"}', "server", "failed: ValueError"),
        ('FATAL:  could not write lock file "postmaster.pid": No space left on device', "postgres", None),
        ("# Fatal error, can't open config file", "redis", None),
        ("2026-01-01 STATEMENT:  insert into runs values ('4111')", "postgres", ""),
    ],
)
def test_last_line_of_a_program_is_kept_where_it_is_not_its_own_business(
    message: str | None, container_name: str, kept: str | None
) -> None:
    assert last_words(message, container_name) == (message if kept is None else kept)


def test_every_way_in_which_a_pod_is_refused_or_ends_is_told_without_its_variables() -> None:
    workload = {"metadata": {"uid": "u"}, "spec": {"template": {"spec": with_variable(SECRET)}}}
    failure = {"type": "ReplicaFailure", "status": "True", "message": f"denied: {SECRET}"}
    event = {"involvedObject": {"uid": "u"}, "metadata": {}, "message": f"denied: {SECRET}"}
    waits = container(waiting={"reason": "RunContainerError", "message": f"no file {SECRET}"})
    crashed = container("sidecar", terminated=ended(1, message=f'{{"event": "{SECRET}"}}'))
    unplaced = [{"type": "PodScheduled", "status": "False", "message": f"denied: {SECRET}"}]
    found = [refused({**workload, "status": {"conditions": [failure]}}), not_created([event], workload)]
    found += [trouble({**pod_object("p", **status), "spec": with_variable(SECRET)})
              for status in ({"containerStatuses": [waits]}, {"containerStatuses": [crashed]}, {"conditions": unplaced})]  # fmt: skip
    messages = [one.message for one in found if one is not None]
    assert len(messages) == 5
    assert all("***" in message and SECRET not in message for message in messages)

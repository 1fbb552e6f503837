"""What a status says of the queue: counts and an instant, no oftener than they are worth a write."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiki_operator.kubernetes.client import Cluster
from aiki_operator.reconcile.queue import AGAIN_SECONDS, QueueFigures
from aiki_operator.reporting.conditions import sentence
from aiki_operator.scaling.load import EMPTY_LOAD, Load
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import pool_body, server_body
from support.operator.turns import POOL, Clock, Operator

SINCE = datetime(2026, 1, 1, 12, 0, 0, 900_000, tzinfo=UTC)


def waiting(runs: int, since: datetime | None = SINCE) -> Load:
    return replace(EMPTY_LOAD, queued=runs, oldest_queued_at=since)


def test_the_oldest_of_all_and_the_sum_are_told() -> None:
    later = datetime(2026, 1, 2, tzinfo=UTC)
    members = QueueFigures(Clock()).members(POOL, [waiting(2, later), waiting(3), EMPTY_LOAD])
    assert members == {"queued": 5, "oldestQueuedAt": "2026-01-01T12:00:00Z"}
    assert QueueFigures(Clock()).members(POOL, [EMPTY_LOAD]) == {"queued": 0}


def test_a_busy_queue_is_told_now_and_then() -> None:
    clock = Clock()
    queues = QueueFigures(clock)
    first = queues.members(POOL, [waiting(1)])
    clock.now += AGAIN_SECONDS - 1
    assert queues.members(POOL, [waiting(2)]) == first
    clock.now += 1
    assert queues.members(POOL, [waiting(3)])["queued"] == 3


def test_what_is_not_known_is_not_told() -> None:
    queues = QueueFigures(Clock())
    queues.members(POOL, [waiting(1)])
    assert queues.members(POOL, []) == {}
    assert queues.members(POOL, [waiting(4)])["queued"] in (1, 4)
    queues.forget(POOL)
    assert queues.members(POOL, [waiting(5)])["queued"] == 5


async def test_columns_have_their_figures(kubernetes: FakeKubernetes, cluster: Cluster) -> None:
    kubernetes.put(server_body())
    kubernetes.put(pool_body())
    operator = Operator(kubernetes, cluster)
    await operator.pool(waiting(7))
    status = kubernetes.objects[POOL]["status"]
    assert (status["pods"], status["queued"], status["oldestQueuedAt"]) == ("0/1", 7, "2026-01-01T12:00:00Z")
    assert [verb for verb, resource in await operator.pool(waiting(8)) if "status" in resource] == []
    await operator.pool(waiting(0, None))


async def test_events_of_one_second_are_in_order_and_say_sentences(kubernetes: FakeKubernetes, cluster: Cluster) -> None:
    kubernetes.put(server_body())
    operator = Operator(kubernetes, cluster)
    await operator.server_until_ready()
    events = kubernetes.of("Event")
    assert len(events) > 1
    names = [one["metadata"]["name"] for one in events]
    assert names == sorted(names)
    conditions = [one["message"] for one in kubernetes.objects["AikiServer", "shop", "aiki"]["status"]["conditions"]]
    messages: list[Any] = [*conditions, *(one["message"] for one in events)]
    assert [one for one in messages if not one.endswith((".", "`", "'"))] == []
    assert [one for one in messages if one.split(" ")[0].isalpha() and one[0].islower()] == []


def test_names_and_commands_are_left_as_they_are() -> None:
    command = "to let it follow the load: kubectl patch akp a -p '{}'"
    assert sentence(command) == "To let it follow the load: kubectl patch akp a -p '{}'"
    assert sentence("spec.template: must be false") == "spec.template: must be false."
    assert sentence("") == ""

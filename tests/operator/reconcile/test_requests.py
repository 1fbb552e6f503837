"""What the operator asks the API server for while nothing happens."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from aiki_operator.process.lease import RENEW_SECONDS, RETRY_SECONDS
from aiki_operator.reconcile.loop import RESYNC_SECONDS
from aiki_operator.reconcile.named_objects import AGAIN_SECONDS, KINDS
from support.operator.fake_kubernetes import FakeKubernetes
from support.operator.objects import server_body
from support.operator.turns import SERVER, Operator

MINUTES = 5
A_SECOND = 1.5
"""What leader and standby together may ask for one server."""


@pytest.fixture
def there() -> list[dict[str, Any]]:
    return [server_body()]


async def minutes_at_rest(operator: Operator, kubernetes: FakeKubernetes) -> Counter[tuple[str, str]]:
    """What is asked for a server in the rounds of some minutes, a turn of the clock for each."""
    kubernetes.asked.clear()
    for _ in range(int(MINUTES * 60 / RESYNC_SECONDS)):
        operator.clock.now += RESYNC_SECONDS
        await operator.server()
    return Counter((verb, resource) for verb, _, resource in kubernetes.asked)


async def test_leader_and_standby_at_rest_ask_less_than_is_promised(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await operator.server_until_ready()
    asked = await minutes_at_rest(operator, kubernetes)
    leases = 1 / RENEW_SECONDS + 1 / RETRY_SECONDS
    assert asked.total() / (MINUTES * 60) + leases < A_SECOND - 0.1, asked  # the rest is for watches that begin anew
    assert {verb for verb, _ in asked} == {"get", "patch"}
    assert {resource for verb, resource in asked if verb == "patch"} == {"aikiservers/status"}


@pytest.mark.parametrize("kind", ["Service", "NetworkPolicy", "PodDisruptionBudget"])
async def test_what_is_read_seldom_comes_back_within_a_minute(kubernetes: FakeKubernetes, operator: Operator, kind: str) -> None:
    await operator.server_until_ready()
    await operator.server()
    place = next(where for where in kubernetes.objects if where[0] == kind)
    del kubernetes.objects[place]
    operator.clock.now += AGAIN_SECONDS
    await operator.server()
    assert place in kubernetes.objects


async def test_a_new_spec_is_held_against_what_is_there_now(kubernetes: FakeKubernetes, operator: Operator) -> None:
    """And so is a server that was deleted and made again under its name: nothing of the old one counts as there."""
    await operator.server_until_ready()
    await operator.server()
    for where in [where for where in kubernetes.objects if where[0] in KINDS]:
        del kubernetes.objects[where]
    body = kubernetes.objects[SERVER]
    kubernetes.put({**body, "metadata": {**body["metadata"], "uid": "another"}})
    await operator.server()
    assert {where[0] for where in kubernetes.objects} >= {"Service", "NetworkPolicy", "PodDisruptionBudget"}


async def test_a_write_is_read_back_in_the_next_round(kubernetes: FakeKubernetes, operator: Operator) -> None:
    await operator.server_until_ready()
    await operator.server()
    body = kubernetes.objects[SERVER]
    kubernetes.put(
        {**body, "spec": {**body["spec"], "networkPolicy": {"enabled": False}}, "metadata": {**body["metadata"], "generation": 2}}
    )
    await operator.server()
    assert not any(where[0] == "NetworkPolicy" for where in kubernetes.objects)
    kubernetes.put({**body, "metadata": {**body["metadata"], "generation": 3}})
    await operator.server()
    assert len([where for where in kubernetes.objects if where[0] == "NetworkPolicy"]) == 5

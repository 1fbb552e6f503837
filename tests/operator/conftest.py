"""A Kubernetes API and an Aiki server to talk to, both small, both over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from aiki_operator.kubernetes.client import Cluster
from support.operator.fake_kubernetes import FakeKubernetes, serve_kubernetes
from support.operator.objects import pool_body, server_body
from support.operator.turns import Operator


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    return FakeKubernetes()


@pytest.fixture
async def cluster(kubernetes: FakeKubernetes) -> AsyncIterator[Cluster]:
    async with serve_kubernetes(kubernetes) as found:
        yield found


@pytest.fixture
def there() -> list[dict[str, Any]]:
    """What is in the cluster when the operator of a test begins: a server and a pool. A file whose tests need others gives them as its `there`."""
    return [server_body(), pool_body()]


@pytest.fixture
def operator(kubernetes: FakeKubernetes, cluster: Cluster, there: list[dict[str, Any]]) -> Operator:
    """An operator that has seen what is there."""
    for body in there:
        kubernetes.put(body)
    return Operator(kubernetes, cluster)

"""A Kubernetes API and an Aiki server to talk to, both small, both over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aiki_operator.cluster import Cluster
from fake_kubernetes import FakeKubernetes, serve_kubernetes


@pytest.fixture
def kubernetes() -> FakeKubernetes:
    return FakeKubernetes()


@pytest.fixture
async def cluster(kubernetes: FakeKubernetes) -> AsyncIterator[Cluster]:
    async with serve_kubernetes(kubernetes) as found:
        yield found

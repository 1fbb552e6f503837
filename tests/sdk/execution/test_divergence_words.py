"""What a divergence says: S11. Which of the calls that were asked for is held against which of those on record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from aiki.execution.divergence import divergence


def call(address: str) -> Any:
    return SimpleNamespace(address=address, label=lambda: f"asked {address}")


def record(address: str) -> Any:
    return SimpleNamespace(address=address, label=f"made {address}")


@pytest.mark.parametrize(
    ("name", "left", "held", "message"),
    [
        ("flow 1.9", ["task:pay:1"], [],
         ('flow 1.9 diverged: it waits for nothing: recorded made task:pay:1. Publish 1.10, or restore the recorded call; '
         'if it was removed on purpose, say so: .v("1.9", removed=["pay"]).')),
        ("flow 7", ["task:a:1", "task:pay:2", "task:c:3"], ["task:b:1", "task:pay:9"],
         ("flow 7 diverged at asked task:pay:9: recorded made task:pay:2. Publish 8, or restore the recorded call; "
         'if it was removed on purpose, say so: .v("7", removed=["pay"]).')),
        ("my flow 1.0-rc", ["sleep::1", "task:c:3"], ["task:b:1", "task:d:9"],
         ("my flow 1.0-rc diverged at asked task:b:1: recorded made sleep::1. Publish a new version, or restore the recorded call; "
         'if it was removed on purpose, say so: .v("1.0-rc", removed=["sleep"]).')),
        ("flow 2.3.4", ["child:task:x@1:1"], ["event:go:2"],
         ("flow 2.3.4 diverged at asked event:go:2: recorded made child:task:x@1:1. Publish 2.3.5, or restore the recorded call; "
         'if it was removed on purpose, say so: .v("2.3.4", removed=["child:task:x@1"]).')),
        ("my flow 1.9", ["task:pay_X:1"], [],
         ('my flow 1.9 diverged: it waits for nothing: recorded made task:pay_X:1. Publish 1.10, or restore the recorded call; '
         'if it was removed on purpose, say so: .v("1.9", removed=["pay_X"]).')),
    ],
)  # fmt: skip
def test_the_pair_that_was_changed_is_named_and_what_to_write(name: str, left: list[str], held: list[str], message: str) -> None:
    error = divergence(name, left=[record(one) for one in left], held=[call(one) for one in held])
    assert (error.type, error.message, error.retryable) == ("Divergence", message, True)

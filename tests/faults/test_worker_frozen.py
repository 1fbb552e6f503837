"""A worker that is stopped past its lease and wakes up again: what it still has to say changes nothing."""

from __future__ import annotations

import signal

import pytest

from aiki import Client
from faults import checks
from faults.installation import Installation
from plugin_workers import until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(90)]

RUNS = 10


async def test_late_writes_of_a_frozen_worker_change_nothing(installation: Installation, client: Client, unique: str) -> None:
    """S5 S6 S7 S8 S12 L22: another worker ends the runs; the thawed one starts no effect, writes nothing, and then works again."""
    frozen = installation.worker()
    handles = await checks.started(client, "in-step", [unique] * RUNS, prefix=unique)

    async def all_in_step() -> bool:
        return len(installation.starts(unique)) == RUNS

    await until(all_in_step, seconds=20)
    frozen.signal(signal.SIGSTOP)
    installation.open_gate(unique)  # its tasks would end the moment it wakes
    other = installation.worker()
    await checks.everything(installation, handles, checks.each(handles, ["before", unique, "after"]))
    written = {name: await checks.history(handle) for name, handle in handles.items()}
    traced = installation.trace()
    frozen.signal(signal.SIGCONT)
    other.stop()
    # Only the thawed worker is left: when it has done new work it has long tried to write the old.
    later = await checks.started(client, "steps", [3] * RUNS, prefix=f"{unique}-later")
    await checks.everything(installation, later, checks.each(later, ["s0", "s1", "s2"]))
    assert {name: await checks.history(handle) for name, handle in handles.items()} == written
    ours = {handle.id for handle in handles.values()}
    assert [entry for entry in installation.trace() if entry.run in ours] == traced
    assert {entry.pid for entry in installation.trace() if entry.run not in ours} == {frozen.pid}

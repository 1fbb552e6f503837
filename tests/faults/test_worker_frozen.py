"""A worker that is stopped past its lease and wakes up again: what it still has to say changes nothing."""

from __future__ import annotations

import signal

import pytest

from aiki import Client
from faults import checks
from faults.installation import Installation
from support.waiting import until

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
    ours = {handle.id for handle in handles.values()}
    traced = [entry for entry in installation.trace() if entry.run in ours]
    frozen.signal(signal.SIGCONT)
    other.stop()
    # Only the thawed worker is left: when it has done new work it has long tried to write the old.
    later = await checks.started(client, "steps", [3] * RUNS, prefix=f"{unique}-later")
    await checks.everything(installation, later, checks.each(later, ["s0", "s1", "s2"]))
    assert {name: await checks.history(handle) for name, handle in handles.items()} == written
    assert [entry for entry in installation.trace() if entry.run in ours] == traced
    theirs = {handle.id for handle in later.values()}
    assert {entry.pid for entry in installation.trace() if entry.run in theirs} == {frozen.pid}


async def test_frozen_worker_starts_no_effect_when_it_wakes(installation: Installation, client: Client, unique: str) -> None:
    """S6 S9: frozen in a retry delay, its timer is long due when it wakes; the next attempt is not its own to start any more."""
    frozen = installation.worker()
    handles = await checks.started(client, "retrying", [None] * RUNS, prefix=unique)

    async def all_failed_once() -> bool:
        return len(installation.starts("flaky")) == RUNS

    await until(all_failed_once, seconds=20)
    frozen.signal(signal.SIGSTOP)
    other = installation.worker()
    await checks.all_ended_right(handles, checks.each(handles, ["before", 3, "after"]))
    frozen.signal(signal.SIGCONT)
    other.stop()
    later = await checks.started(client, "steps", [1] * RUNS, prefix=f"{unique}-later")
    await checks.everything(installation, later, checks.each(later, ["s0"]))
    await checks.everything(installation, handles, checks.each(handles, ["before", 3, "after"]))
    attempts = [(entry.run, entry.attempt) for entry in installation.trace() if entry.step == "flaky" and entry.attempt > 1]
    assert len(attempts) == len(set(attempts)) == 2 * RUNS

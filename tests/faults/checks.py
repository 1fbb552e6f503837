"""What must hold after every fault. Each test says in its first line which invariants (by number) it checks with these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiki import Client, RunHandle
from aiki.protocol import HistoryEntry, Status
from faults.installation import Installation

PATIENCE_SECONDS = 40.0
TERMINAL = {"completed": Status.COMPLETED, "failed_run": Status.FAILED, "cancelled": Status.CANCELLED}
ACK_SLACK_SECONDS = 0.3
"""An entry's instant is when the result came to be; its acknowledgement follows within this."""


async def all_ended_right(handles: Mapping[str, RunHandle[Any]], expected: Mapping[str, object]) -> None:
    """S1, S15, L40: every acknowledged run completes, with the result that its code returns."""
    results = {name: await handle.result(PATIENCE_SECONDS) for name, handle in handles.items()}
    assert results == dict(expected)


async def each_ended_once(handles: Mapping[str, RunHandle[Any]]) -> None:
    """S12, S13, S14: the history is gapless, has one end, at its end, and the status says the same."""
    for handle in handles.values():
        entries = await history(handle)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        ends = [index for index, entry in enumerate(entries) if entry.kind in TERMINAL]
        assert ends == [len(entries) - 1]
        assert (await handle.refresh()).status is TERMINAL[entries[-1].kind]


async def nothing_acknowledged_ran_again(installation: Installation, handles: Mapping[str, RunHandle[Any]]) -> None:
    """S5, S10: what is in the history ran, has one result, and did not begin again after that was stored."""
    trace = installation.trace()
    for handle in handles.values():
        done = {entry.data["c"]: entry for entry in await history(handle) if entry.kind == "done" and "i" not in entry.data}
        calls = {entry.data["c"]: entry for entry in await history(handle) if entry.kind == "call"}
        assert len(calls) == sum(entry.kind == "call" for entry in await history(handle))
        for number, entry in done.items():
            if not calls[number].data["a"].startswith("task:"):
                continue
            begun = [attempt.at for attempt in trace if attempt.key == f"{handle.id}-{number}"]
            assert begun, f"{calls[number].data['l']} of {handle.id} has a result and never ran"
            assert max(begun) <= entry.at.timestamp() + ACK_SLACK_SECONDS, f"{calls[number].data['l']} of {handle.id} ran again"


async def epochs_rise(handles: Mapping[str, RunHandle[Any]]) -> None:
    """S7, S8: no entry was written under an older epoch than the one before it."""
    for handle in handles.values():
        epochs = [entry.epoch for entry in await history(handle)]
        assert epochs == sorted(epochs)


async def everything(installation: Installation, handles: Mapping[str, RunHandle[Any]], expected: Mapping[str, object]) -> None:
    """All of the above."""
    await all_ended_right(handles, expected)
    await each_ended_once(handles)
    await nothing_acknowledged_ran_again(installation, handles)
    await epochs_rise(handles)


def each(handles: Mapping[str, object], result: object) -> dict[str, object]:
    """The same expectation of every run."""
    return dict.fromkeys(handles, result)


async def history(handle: RunHandle[Any]) -> list[HistoryEntry]:
    """The whole history of a run."""
    entries: list[HistoryEntry] = []
    after: int | None = 0
    while after is not None:
        page = await handle.history(after=after)
        entries += page.entries
        after = page.next
    return entries


async def started(client: Client, workflow: str, inputs: Sequence[object], *, prefix: str) -> dict[str, RunHandle[Any]]:
    """Runs with a name each, started one by one; the names are their refs."""
    handles: dict[str, RunHandle[Any]] = {}
    for number, value in enumerate(inputs):
        name = f"{prefix}-{number}"
        handles[name] = await client.start(workflow, value, ref=name)
    return handles

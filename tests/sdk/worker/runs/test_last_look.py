"""Events that are accepted while a run ends: the code that gave up waiting for them looks again (S24, S25, S5)."""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from aiki import ApiError, Client, Event, Run, task, workflow
from aiki.execution.batch import JournalBatch
from aiki.protocol import ChildStart
from aiki.worker.runs.rewind import rewound
from support.server import ServerProcess
from support.waiting import until
from support.workers import SECONDS, StartWorker

order, other = Event("order", int), Event("other", int)
Send = Callable[[str, str, int], None]


@pytest.fixture
def send(server: ServerProcess) -> Send:
    """Sends an event at once, from within workflow code: what else happens just then is certain."""

    def send(run: str, name: str, payload: int) -> None:
        body = json.dumps({"name": name, "payload": payload}).encode()
        request = urllib.request.Request(f"{server.url}/api/v1/runs/{run}/events", body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.status == 201

    return send


def once(do: Callable[[], None]) -> Callable[[], None]:
    """Does it the first time only."""
    left = [do]
    return lambda: left.pop()() if left else None


@pytest.mark.parametrize("raises", [False, True], ids=["returns", "raises"])
@pytest.mark.parametrize("timeout", [0, 0.2])
async def test_an_event_that_comes_after_the_last_look_is_looked_at(
    client: Client, start_worker: StartWorker, unique: str, send: Send, timeout: float, raises: bool
) -> None:
    flow, handled = workflow(unique), list[int]()

    @flow.v("1.0")
    async def version(run: Run) -> list[int]:
        found = list[int]()
        while answer := await run.wait(order, timeout=timeout):
            found.append(answer.payload)
        handled[:] = found
        if not found:
            first()
        if raises:
            raise ValueError("the end")
        return found

    handle = await version.start(client)

    def send_two() -> None:
        send(handle.id, "order", 1)
        send(handle.id, "order", 2)

    first = once(send_two)
    await start_worker(flow)
    ended = await _ended(handle)
    assert handled == [1, 2]
    assert str(ended.status) == ("failed" if raises else "completed")
    history = await handle.history()
    assert history.undelivered == []
    assert [entry.data.get("by") for entry in history.entries if entry.kind == "queued"].count("rewound") == 1


async def _ended(handle: Any) -> Any:
    async def info() -> Any:
        found = await handle.refresh()
        return found if found.status.terminal else None

    return await until(info)


async def test_a_task_that_has_ended_is_not_run_again_when_the_run_looks_again(
    client: Client, start_worker: StartWorker, unique: str, send: Send
) -> None:
    flow, ran = workflow(unique), list[int]()

    @task
    async def charge(amount: int) -> int:
        ran.append(amount)
        return amount

    @flow.v("1.0")
    async def version(run: Run) -> list[Any]:
        charged = await charge.start(run, 10)
        first_look = await run.wait(order, timeout=0)
        first()
        return [charged, first_look.received]

    handle = await version.start(client)
    first = once(lambda: send(handle.id, "order", 1))
    await start_worker(flow)
    assert await handle.result(SECONDS) == [10, True]
    assert ran == [10]


@pytest.mark.parametrize("kind", ["wait", "wait_for", "timeout"])
async def test_an_event_that_came_between_the_deadline_and_the_claim_is_looked_at(
    client: Client, start_worker: StartWorker, unique: str, send: Send, kind: str
) -> None:
    """The worker has it in hand when it looks at the clock, so no finish would be answered `inbox_pending`."""
    flow = workflow(unique)

    async def look(run: Run) -> int | None:
        if kind == "wait":
            answer = await run.wait(order, timeout=0.3)
            return answer.payload if answer else None
        with suppress(TimeoutError):
            if kind == "wait_for":
                return await asyncio.wait_for(run.wait(order), 0.3)
            async with asyncio.timeout(0.3):
                return await run.wait(order)
        return None

    @flow.v("1.0")
    async def version(run: Run) -> list[int]:
        found = list[int]()
        while (answer := await look(run)) is not None:
            found.append(answer)
        return found

    handle = await version.start(client)
    worker = await start_worker(flow)
    await until_status(handle, "waiting")
    await worker.stop()
    await until_status(handle, "queued")
    for number in (1, 2):
        send(handle.id, "order", number)
    await start_worker(flow)
    assert await handle.result(SECONDS) == [1, 2]
    assert (await handle.history()).undelivered == []


async def until_status(handle: Any, status: str) -> None:
    async def is_there() -> bool:
        return str((await handle.refresh()).status) == status

    await until(is_there)


async def test_state_that_was_assigned_before_the_look_is_stored_though_the_commit_was_taken_back(
    client: Client, start_worker: StartWorker, unique: str, send: Send
) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> bool:
        run.state["looking"] = 1
        look = await run.wait(order, timeout=0)
        if not look:
            run.state["looking"] = 2
        first()
        return look.received

    handle = await version.start(client)
    first = once(lambda: send(handle.id, "order", 1))
    await start_worker(flow)
    assert await handle.result(SECONDS) is True
    assert (await handle.refresh()).state == {"looking": 1}


async def test_events_that_the_code_never_waited_for_hold_nothing_up(
    client: Client, start_worker: StartWorker, unique: str, send: Send
) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> bool:
        look = await run.wait(order, timeout=0)
        first()
        return look.received

    handle = await version.start(client)
    first = once(lambda: send(handle.id, "other", 1))
    await start_worker(flow)
    assert await handle.result(SECONDS) is False
    history = await handle.history()
    assert [event.name for event in history.undelivered] == ["other"]
    assert "rewound" not in [entry.data.get("by") for entry in history.entries]


async def test_an_event_whose_turn_is_over_stays_readable(client: Client, start_worker: StartWorker, unique: str, send: Send) -> None:
    """What was decided and written before the event came stands: after the last look, the code did something else."""
    flow = workflow(unique)

    @task
    async def close() -> None:
        first()

    @flow.v("1.0")
    async def version(run: Run) -> bool:
        look = await run.wait(order, timeout=0)
        await close.start(run)
        return look.received

    handle = await version.start(client)
    first = once(lambda: send(handle.id, "order", 1))
    await start_worker(flow)
    assert await handle.result(SECONDS) is False
    assert [event.name for event in (await handle.history()).undelivered] == ["order"]


async def test_whatever_is_accepted_while_senders_hurry_is_handled(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @task
    async def note(count: int) -> int:
        return count

    @flow.v("1.0")
    async def version(run: Run) -> int:
        await run.wait(order)
        handled = await note.start(run, 1)
        while await run.wait(order, timeout=0):
            handled += 1
        return handled

    await start_worker(flow)
    handle = await version.start(client)
    accepted = 0

    async def hurry() -> None:
        nonlocal accepted
        while True:
            await handle.send(order, 1)
            accepted += 1

    refused = await asyncio.gather(*[hurry() for _ in range(4)], return_exceptions=True)
    assert [error.status for error in refused if isinstance(error, ApiError)] == [409] * 4
    assert await handle.result(SECONDS) == accepted


# ---- what is taken back


def batch_of(*entries: dict[str, Any], children: tuple[str, ...] = (), cancel_children: tuple[str, ...] = ()) -> JournalBatch:
    started = [ChildStart(id=child, workflow="w", version="1", input="1") for child in children]
    consumed = [entry["i"] for entry in entries if "i" in entry]
    return JournalBatch(
        json.dumps(list(entries), separators=(",", ":")), len(entries), 0, consumed, started, list(cancel_children), '{"a":1}'
    )


def kept(batch: JournalBatch | None) -> list[tuple[str, int | None]]:
    assert batch is not None
    entries = json.loads(batch.entries)
    assert len(entries) == batch.count
    return [(entry["k"], entry.get("c")) for entry in entries]


CHILD = "0" * 32
CALL: dict[str, Any] = {"k": "call", "a": "x"}
DONE: dict[str, Any] = {"k": "done", "v": 1}


def test_what_follows_from_the_look_is_taken_back_and_ends_of_tasks_stay():
    batch = batch_of(
        CALL | {"c": 0},
        CALL | {"c": 1},
        DONE | {"c": 1, "timeout": True},
        CALL | {"c": 2, "run": CHILD},
        {"k": "child_cancel_requested", "c": 2},
        DONE | {"c": 0},
        DONE | {"c": 3, "i": 7},
        {"k": "cancel", "i": 8},
        {"k": "completed"},
        children=(CHILD,),
        cancel_children=(CHILD,),
    )
    left = rewound(batch, looks={1: ["order"]}, came={"order"}, acted=0)
    assert kept(left) == [("call", 0), ("call", 1), ("done", 0)]
    assert left is not None
    assert (left.steps, left.consumed, left.children, left.cancel_children, left.state) == (2, [], [], [], None)


@pytest.mark.parametrize(
    ("looks", "came", "acted"),
    [({1: ["order"]}, {"other"}, 0), ({1: []}, {"order"}, 0), ({2: ["order"]}, {"order"}, 0), ({1: ["order"]}, {"order"}, 2)],
)
def test_what_was_not_looked_for_or_was_acted_on_is_not_taken_back(looks: dict[int, list[str]], came: set[str], acted: int) -> None:
    batch = batch_of(CALL | {"c": 1}, DONE | {"c": 1, "timeout": True}, {"k": "completed"})
    assert rewound(batch, looks=looks, came=came, acted=acted) is None


def test_payloads_stay_as_they_are_written():
    entries = '[{"k":"done","c":0,"v":[1.0,1e3,"\\u00e9 ] },{",12345678901234567890]},{"k":"call","c":1,"a":"x"},{"k":"done","c":1},{"k":"completed"}]'
    left = rewound(JournalBatch(entries, 4, 1, [], [], [], None), looks={1: ["order"]}, came={"order"}, acted=0)
    assert left is not None
    assert left.entries == entries[: entries.index(',{"k":"done","c":1}')] + "]"


def test_nothing_stays_that_refers_to_what_was_taken_back():
    """The law, over random commits."""
    chance = random.Random(1)
    for _ in range(300):
        entries, looks = list[dict[str, Any]](), dict[int, list[str]]()
        for call in range(chance.randrange(1, 8)):
            entries.append(CALL | {"c": call})
            for _ in range(chance.randrange(3)):
                ended = chance.randrange(call + 1)
                if chance.random() < 0.4:
                    looks[ended] = chance.choice([["order"], ["other"], []])
                entries.append({"k": chance.choice(["done", "failed", "attempt"]), "c": ended})
        left = rewound(batch_of(*entries), looks=looks, came={"order"}, acted=0)
        if left is None:
            continue
        found = json.loads(left.entries)
        calls = {entry["c"] for entry in found if entry["k"] == "call"}
        assert all(entry["c"] in calls for entry in found)
        assert not [entry for entry in found if entry["k"] == "done" and looks.get(entry["c"]) == ["order"]]
        assert calls == set(range(len(calls)))

"""Events with a worker in this process and the real server: what comes is received, what does not fit is refused where it is sent, or pauses the run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from aiki import ApiError, Client, Event, Run, workflow
from aiki.protocol import Status
from support.waiting import until
from support.workers import SECONDS, StartWorker, has_status

anything = Event("anything")
nothing = Event("nothing", None)
number = Event("number", int)


@pytest.mark.parametrize("sent_before", [True, False])
@pytest.mark.parametrize("payload", [None, {}, [], 0, False, "", {"by": "link"}])
async def test_an_event_that_came_in_time_was_received_whatever_its_payload(
    client: Client, start_worker: StartWorker, unique: str, payload: Any, sent_before: bool
) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> list[Any]:
        answer = await run.wait(anything, timeout=timedelta(hours=1))
        return [answer.received, answer.payload if answer else "nothing"]

    handle = await version.start(client)
    if sent_before:
        await handle.send(anything, payload)
    await start_worker(flow)
    if not sent_before:
        await until(lambda: has_status(handle, Status.WAITING))
        await handle.send(anything, payload)
    assert await handle.result(SECONDS) == [True, payload]


async def test_the_server_refuses_what_the_code_of_a_version_does_not_take(client: Client, start_worker: StartWorker, unique: str) -> None:
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> list[Any]:
        return [await run.wait(nothing), await run.wait(number)]

    await start_worker(flow)
    handle = await version.start(client)
    for name, payload in (("nothing", {}), ("nothing", 0), ("number", None), ("number", "many")):
        with pytest.raises(ApiError, match="does not take this payload") as refused:
            await handle.send(name, payload)
        assert refused.value.status == 422
    await handle.send("nothing")
    await handle.send("number", 7)
    assert await handle.result(SECONDS) == [None, 7]


async def test_an_event_that_the_server_does_not_know_pauses_its_run_however_often_it_is_retried(
    client: Client, start_worker: StartWorker, unique: str
) -> None:
    """It is made while the run goes on, so nothing was registered of it. Code that takes it goes on with it."""
    flow = workflow(unique)

    @flow.v("1.0")
    async def version(run: Run) -> Any:
        return await run.wait(Event("amount", int))

    first = await start_worker(flow)
    handle = await version.start(client)
    await handle.send("amount", "many")
    for _ in range(12):
        await until(lambda: has_status(handle, Status.PAUSED))
        await handle.resume()
    await until(lambda: has_status(handle, Status.PAUSED))
    info = await handle.refresh()
    assert info.error is not None
    assert "what wait(amount) brought does not fit its annotation <class 'int'>: " in info.error.message
    assert "event 1, amount," in info.error.message
    await first.stop()
    mended = workflow(unique)

    @mended.v("1.0")
    async def looser(run: Run) -> Any:
        return await run.wait(Event("amount", str))

    await start_worker(mended)
    await handle.resume()
    assert await client.handle(handle.id).result(SECONDS) == "many"

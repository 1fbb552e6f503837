"""Checked by mypy, never run. What is ignored must be an error (strict mode reports an ignore that ignores nothing), and nothing else."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import assert_never, assert_type

from pydantic import BaseModel

from aiki import Child, Client, Event, Pending, Received, Retry, Run, RunHandle, TimedOut, Worker, task, task_context, workflow


class Signup(BaseModel):
    email: str


@task
async def create(signup: Signup, plan: str = "free") -> str:
    return signup.email


@task(retry=Retry.fixed(delay=2, max_attempts=3), timeout=60)
def notify(to: str, *, urgent: bool = False) -> int:
    return 1


verified = Event("verified", Signup)
anything = Event("anything")
poke = Event("poke", None)
onboarding = workflow("onboarding")


@onboarding.v("1.0")
async def onboarding_v1(run: Run, signup: Signup) -> int:
    assert_type(create.start(run, signup), Pending[str])
    assert_type(await create.start(run, signup, plan="gold"), str)
    assert_type(await notify.start(run, "ann", urgent=True), int)
    create.start(run, "ann")  # type: ignore[arg-type]
    create.start(run)  # type: ignore[call-arg]
    create.start(run, signup, 3)  # type: ignore[arg-type]
    notify.start(run, "ann", True)  # type: ignore[call-arg]
    create.start(signup)  # type: ignore[arg-type, call-arg]
    assert_type(await run.wait(verified), Signup)
    answer = await run.wait(verified, timeout=timedelta(hours=1))
    assert_type(answer, Received[Signup] | TimedOut)
    print(answer.payload)  # type: ignore[union-attr]
    assert_type(answer.received, bool)
    if answer:
        assert_type(answer.payload, Signup)
    else:
        assert_type(answer, TimedOut)
        print(answer.payload)  # type: ignore[attr-defined]
    if answer.received:
        assert_type(answer.payload, Signup)
    match answer:
        case Received(payload):
            assert_type(payload, Signup)
        case TimedOut():
            pass
        case _:
            assert_never(answer)
    while more := await run.wait(verified, timeout=0):
        assert_type(more.payload, Signup)
    assert_type(await run.wait(poke), None)
    assert_type(await run.wait(poke, timeout=1), Received[None] | TimedOut)
    assert_type(await create.map(run, [signup, signup], limit=3), list[str])
    await create.map(run, ["ann"])  # type: ignore[list-item]
    assert_type(await asyncio.gather(create.start(run, signup), notify.start(run, "x")), tuple[str, int])
    async with asyncio.TaskGroup() as group:
        group.create_task(create.start(run, signup))
    async with run.saga() as saga:
        saga.undo(notify, "ann", urgent=True)
        saga.undo(notify, 5)  # type: ignore[arg-type]
    won = await run.first(a=create.start(run, signup), b=run.sleep(days=1))
    assert_type(won.name, str)
    run.state["x"] = [1, 2]
    await run.sleep(timedelta(days=1))
    await run.sleep("1 day")  # type: ignore[arg-type]
    return 3


@onboarding.v("2.0")
async def onboarding_v2(run: Run) -> None:
    child = onboarding_v1.start(run, Signup(email="ann"), on_parent_close="abandon")
    assert_type(child, Child[int])
    assert_type(child.id, str)
    assert_type(await child, int)
    onboarding_v1.start(run, "ann")  # type: ignore[call-overload]
    onboarding_v1.start(run, Signup(email="ann"), on_parent_close="kill")  # type: ignore[call-overload]
    onboarding_v1.start(run)  # type: ignore[call-overload]


@onboarding.v("3.0")  # type: ignore[arg-type]
def no_coroutine(run: Run) -> int:
    return 1


async def service(client: Client) -> None:
    assert_type(await onboarding_v1.start(client, Signup(email="ann"), ref="ann"), RunHandle[int])
    await onboarding_v1.start(client, 5)  # type: ignore[call-overload]
    await onboarding_v1.start(client, Signup(email="ann"), on_conflict="reject")
    await onboarding_v1.start(client, Signup(email="ann"), on_conflict="replace")  # type: ignore[call-overload]
    await onboarding_v2.start(client)
    assert_type(await create(Signup(email="ann")), str)
    assert_type(notify("ann"), int)
    handle = await onboarding_v1.start(client, Signup(email="ann"))
    await handle.send(verified, Signup(email="ann"))
    await handle.send(poke)
    await handle.send(poke, None)
    await handle.send(poke, {})  # type: ignore[misc]
    await handle.send(verified)  # type: ignore[arg-type]
    await handle.send(verified, "ann")  # type: ignore[misc]
    await handle.send(anything, [1])
    await handle.send("verified", {"email": "ann"})
    assert_type(client, Client)
    await Worker(client, workflows=[onboarding], max_blocking_seconds=1.5).run()
    Worker(client, max_blocking_seconds="1 s")  # type: ignore[arg-type]


def idempotency_key() -> str:
    assert_type(task_context().attempt, int)
    return task_context().key

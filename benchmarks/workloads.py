"""The workflows that the benchmarks run: steps that do next to nothing, so that what is measured is Aiki."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from aiki import Event, Run, task, workflow

SLEEP = timedelta(seconds=5)

poke = Event("poke", int)


@task
async def add_one(value: int) -> int:
    """One step."""
    return value + 1


@task
async def late_by(due_at: datetime) -> float:
    """Milliseconds between the instant at which the run was due and this step's start."""
    return (time.time() - due_at.timestamp()) * 1e3


@task
async def held(value: int) -> int:
    """A step that was certainly begun before the worker is killed, and is cheap to run again."""
    return value + 1


steps = workflow("bench-steps")
parent = workflow("bench-parent")
parallel = workflow("bench-parallel")
sleeper = workflow("bench-sleeper")
listener = workflow("bench-listener")


@steps.v("1")
async def steps_v1(run: Run, count: int) -> int:
    """`count` steps, one after the other."""
    value = 0
    for _ in range(count):
        value = await add_one.start(run, value)
    return value


@parent.v("1")
async def parent_v1(run: Run, count: int) -> int:
    """`count` children of one step each, all at once."""
    children = [steps_v1.start(run, 1) for _ in range(count)]
    return sum([await child for child in children])


@parallel.v("1")
async def parallel_v1(run: Run, count: int) -> int:
    """`count` parallel steps."""
    return sum(await add_one.map(run, range(count), limit=count))


@sleeper.v("1")
async def sleeper_v1(run: Run, _: int) -> float:
    """Sleeps, then says how late it was woken, in milliseconds."""
    due_at = run.now() + SLEEP
    await run.sleep(SLEEP)
    return await late_by.start(run, due_at)


@listener.v("1")
async def listener_v1(run: Run, _: int) -> int:
    """Waits for one event, then runs one step."""
    value = await run.wait(poke)
    return await add_one.start(run, value or 0)

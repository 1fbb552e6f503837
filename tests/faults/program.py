"""The worker that the fault tests kill: its tasks leave a trace in a file, and wait where the test wants them to wait.

Run as a process: `python program.py`, with AIKI_URL, FAULTS_DIRECTORY and FAULTS_CONCURRENCY. The trace outlives any kill: one write of one line, appended.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

from aiki import Client, Event, Retry, Run, task, task_context, workflow
from aiki.worker import Worker, run
from aiki_server import logs

DIRECTORY = Path(os.environ.get("FAULTS_DIRECTORY", "."))
GO = Event("go", str)


def trace(step: str) -> None:
    """One line: this attempt of this step begins now."""
    about = task_context()
    line = json.dumps(
        {"run": about.run_id, "key": about.key, "step": step, "attempt": about.attempt, "pid": os.getpid(), "at": time.time()}
    )
    descriptor = os.open(DIRECTORY / "trace.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)


@task
async def note(step: str) -> str:
    trace(step)
    return step


@task
async def gated(gate: str) -> str:
    """Waits until the test opens the gate."""
    trace(gate)
    while not (DIRECTORY / gate).exists():
        await asyncio.sleep(0.01)
    return gate


@task(retry=Retry.fixed(max_attempts=3, delay=3.0))
async def fails_twice(step: str) -> int:
    trace(step)
    if task_context().attempt < 3:
        raise ConnectionError("the outside world is away")
    return task_context().attempt


steps = workflow("steps")
in_step = workflow("in-step")
retrying = workflow("retrying")
parked = workflow("parked")
raced = workflow("raced")
racing = workflow("racing")


@steps.v("1.0")
async def steps_v1(run: Run, count: int) -> list[str]:
    return [await note.start(run, f"s{number}") for number in range(count)]


@in_step.v("1.0")
async def in_step_v1(run: Run, gate: str) -> list[str]:
    return [await note.start(run, "before"), await gated.start(run, gate), await note.start(run, "after")]


@retrying.v("1.0")
async def retrying_v1(run: Run, step: str | None = None) -> list[Any]:
    return [await note.start(run, "before"), await fails_twice.start(run, step or "flaky"), await note.start(run, "after")]


@parked.v("1.0")
async def parked_v1(run: Run, sleep_seconds: float) -> list[str]:
    first = await note.start(run, "before")
    if sleep_seconds:
        await run.sleep(sleep_seconds)
        return [first, await note.start(run, "after")]
    return [first, await run.wait(GO), await note.start(run, "after")]


@raced.v("1.0")
async def raced_v1(run: Run) -> str:
    try:
        return await run.wait(GO)
    finally:
        await note.start(run, "tidied up")


@racing.v("1.0")
async def racing_v1(run: Run, gate: str) -> list[str]:
    won = await run.first(child=raced_v1.start(run), gate=gated.start(run, gate))
    return [won.name, await note.start(run, "after"), await run.wait(GO)]


WORKFLOWS = [steps, in_step, retrying, parked, raced, racing]


def main() -> None:
    """Work until a signal, or a kill."""
    logs.configure(os.environ.get("FAULTS_LOG_LEVEL", "INFO"))
    concurrency = int(os.environ.get("FAULTS_CONCURRENCY", "50"))
    run(lambda: Worker(Client(), workflows=WORKFLOWS, concurrency=concurrency), grace_seconds=10)


if __name__ == "__main__":
    main()

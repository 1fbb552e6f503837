"""What the end-to-end tests run: naps of any length, a sleep before a nap, and the build that did it."""

from __future__ import annotations

import asyncio
import os
from typing import TypedDict

from aiki import Retry, Run, task, workflow


class Nap(TypedDict):
    """Which pod and build took the nap, and at which attempt number of the process it was."""

    pod: str
    build: str
    seconds: float


class Woken(TypedDict):
    """How many seconds late a sleep ended, by the database's clock, and on which build the run went on."""

    late: float
    build: str


@task
async def nap(seconds: float) -> Nap:
    """Takes its time."""
    await asyncio.sleep(seconds)
    return Nap(pod=os.environ.get("AIKI_POD", ""), build=os.environ.get("AIKI_BUILD", ""), seconds=seconds)


@task(retry=Retry.exponential(max_attempts=1_000, base_delay=8, max_delay=8))
async def strain() -> str:
    """Fails each time on a build that is to be bad, and is tried again for long; the build that did it."""
    if os.environ.get("IS_BAD"):
        raise OSError("this build is bad")
    return os.environ.get("AIKI_BUILD", "")


napping = workflow("napping")
straining = workflow("straining")
sleeping = workflow("sleeping")


@napping.v("1.0")
async def napping_v1(run: Run, seconds: float) -> Nap:
    """One task of the length that is asked for."""
    return await nap.start(run, seconds)


@sleeping.v("1.0")
async def sleeping_v1(run: Run, seconds: float) -> Woken:
    """No worker held for a while."""
    began = run.now()
    await run.sleep(seconds=seconds)
    late = (run.now() - began).total_seconds() - seconds
    return Woken(late=late, build=(await nap.start(run, 0.0))["build"])


@straining.v("1.0")
async def straining_v1(run: Run) -> str:
    """One task that a bad build cannot do."""
    return await strain.start(run)

"""What the workers of these tests run."""

from __future__ import annotations

from aiki import Event, NonRetryable, Run, task, workflow

go = Event("go", str)
greeting = workflow("greeting")
failing = workflow("failing")


@task
async def greet(name: str) -> str:
    return f"Hello {name}"


@task
async def fail() -> None:
    raise NonRetryable("out of paper")


@greeting.v("1.0")
async def greeting_v1(run: Run, name: str) -> str:
    text = await greet.start(run, name)
    word = await run.wait(go)
    return f"{text}, {word}"


@failing.v("1.0")
async def failing_v1(run: Run) -> None:
    await fail.start(run)

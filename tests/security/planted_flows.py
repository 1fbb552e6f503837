"""The workflows of the planted secrets: each brings what it was given to a place from which it might get into a log."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from aiki import Event, NonRetryable, Retry, Run, task, workflow


class Card(BaseModel):
    number: int


@task(retry=Retry.exponential(max_attempts=2, base_delay=0.01, max_delay=0.01))
async def charge(secret: Any) -> Any:
    raise ValueError(f"cannot charge {secret}")


@task
async def echo(secret: Any) -> Any:
    return secret


@task
async def take(card: Card) -> None: ...


go = Event("go", Any)
counted = Event("counted", dict[str, int])
planted = workflow("planted")


@planted.v("1.0")
async def planted_v1(run: Run, what: dict[str, Any]) -> Any:
    run.state["secret"] = what["secret"]
    await echo.start(run, what["secret"])
    match what["way"]:
        case "task":
            return await charge.start(run, what["secret"])
        case "wait":
            answer = await run.wait(go, timeout=timedelta(minutes=5))
            return answer.payload if answer else None
        case "misfit":
            await run.wait(counted, timeout=timedelta(minutes=5))
            return await run.wait(Event("unknown", dict[str, int]), timeout=timedelta(minutes=5))
        case "raise":
            raise NonRetryable(f"no good: {what['secret']}")
        case "type":
            return await take.start(run, Card(number=what["secret"]))
        case "lost":
            return {what["secret"]: object()}
        case "key":
            return what[what["secret"]]
        case _:
            return what["secret"]

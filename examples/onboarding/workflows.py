"""User onboarding over days: a profile, a verification mail, up to twelve hours of waiting, a day later some tips.

Reads like the process it describes. It may be killed at any line; it goes on where it was.
"""

from __future__ import annotations

from datetime import timedelta

import world
from pydantic import BaseModel

from aiki import Event, Retry, Run, task, task_context, workflow


class Signup(BaseModel):
    """What the sign-up form sends."""

    email: str
    name: str


@task
async def create_profile(signup: Signup) -> str:
    return world.add_user(signup.email, task_context().key)


@task(retry=Retry.exponential(max_attempts=5, base_delay=1, max_delay=30), timeout=60)
def send_verification(signup: Signup) -> None:
    """A `def` task runs in a thread: smtplib blocks, and may."""
    text = f"Hello {signup.name}, click here to verify your address."
    world.send_mail(signup.email, "Verify your address", text, task_context().key)


@task
async def mark_verified(user_id: str) -> None:
    world.set_state(user_id, "verified", task_context().key)


@task
async def deactivate_user(user_id: str, reason: str) -> None:
    world.set_state(user_id, "deactivated", task_context().key, reason)


@task(retry=Retry.exponential(max_attempts=5, base_delay=1, max_delay=30))
def send_usage_tips(signup: Signup) -> None:
    world.send_mail(signup.email, "Three things to try first", f"Hello {signup.name}, did you know …", task_context().key)


email_verified = Event("email_verified", dict | None)  # the link may say how; that it was clicked is all that counts
onboarding = workflow("user-onboarding")


@onboarding.v("1.0")
async def onboarding_v1(run: Run, signup: Signup) -> dict[str, object]:
    user_id = await create_profile.start(run, signup)
    await send_verification.start(run, signup)
    verified = await run.wait(email_verified, timeout=world.pace(timedelta(hours=12)))  # no worker held
    if not verified.received:
        await deactivate_user.start(run, user_id, "email not verified")
        return {"success": False}
    await mark_verified.start(run, user_id)
    await run.sleep(world.pace(timedelta(days=1)))  # no worker held
    await send_usage_tips.start(run, signup)
    return {"success": True, "user_id": user_id}

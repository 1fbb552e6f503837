"""Workflows in a unit test: in-process, with a virtual clock, and with a crash at every checkpoint if wanted.

Tasks are functions: a unit test calls them, inside of `with task_context(...)` if they ask for `aiki.task_context()`.

simulation = Simulation(onboarding, crash=True)
run = simulation.start(onboarding_v1, Signup(email="ann@example.com"))
run.send(email_verified, {"at": "noon"}, after=timedelta(hours=3))
assert await run.result() == {"success": True, "user_id": "u1"}
"""

from aiki.testing.context import task_context
from aiki.testing.run import SimulatedRun
from aiki.testing.simulation import Simulation, Stuck

__all__ = ["SimulatedRun", "Simulation", "Stuck", "task_context"]

"""`import aiki` leaves its host process as it is, and loads what does I/O only for those who ask for it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

LOOK = """
import asyncio, gc, json, logging, signal, sys, threading, warnings

def state():
    policy = asyncio.events._event_loop_policy
    return {
        "unawaited": repr(warnings._warn_unawaited_coroutine),
        "collector": [list(map(repr, gc.callbacks)), gc.get_threshold(), gc.get_freeze_count()],
        "signals": {number.name: repr(signal.getsignal(number)) for number in signal.valid_signals() if hasattr(number, "name")},
        "logging": [logging.root.level, list(map(repr, logging.root.handlers)), logging.getLogger("aiki").level,
                    list(map(repr, logging.getLogger("aiki").handlers)), repr(logging.getLoggerClass()), logging.raiseExceptions],
        "policy": repr(policy),
        "hooks": list(map(repr, (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.get_asyncgen_hooks()))),
        "warnings": list(map(repr, warnings.filters)),
        "threads": threading.active_count(),
        "recursion": sys.getrecursionlimit(),
    }

import pydantic, pydantic.functional_validators, traceback, hashlib  # what others do when they are imported is not ours
before = state()
{do}
after = state()
heavy = [name for name in ("aiohttp", "redis", "rich", "typer", "watchfiles", "aiki.client", "aiki.worker") if name in sys.modules]
print(json.dumps([before, after, heavy]))
"""


def outcome(do: str) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """The process before and after, and which of the heavy modules it has loaded."""
    ran = subprocess.run([sys.executable, "-c", LOOK.replace("{do}", do)], capture_output=True, text=True, check=True)
    before, after, heavy = json.loads(ran.stdout)
    return before, after, heavy


RUN = """
import aiki
from aiki.testing import Simulation
flow = aiki.workflow("flow")
@flow.v("1.0")
async def flow_v1(run):
    await run.sleep(60)
async def main():
    simulation = Simulation(flow, crash=True)
    await simulation.start(flow_v1).result()
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "do",
    [
        "import aiki",
        "import aiki; [getattr(aiki, name) for name in aiki.__all__]",
        "import aiki.client, aiki.worker, aiki.testing, aiki.protocol",
        "import aiki; aiki.workflow('flow'); aiki.Event('paid', int); aiki.task(len)",
    ],
    ids=["import", "every name", "every part", "definitions"],
)
def test_importing_changes_nothing_in_the_process(do: str) -> None:
    before, after, _ = outcome(do)
    assert after == before


@pytest.mark.parametrize("do", ["import aiki", "import aiki.protocol", "import aiki; aiki.workflow('flow')"])
def test_who_does_no_io_loads_no_library_for_it(do: str) -> None:
    assert outcome(do)[2] == []


def test_what_workflow_code_needed_is_taken_back_after_the_last_run() -> None:
    before, after, heavy = outcome(RUN)
    assert (after["unawaited"], after["collector"]) == (before["unawaited"], before["collector"])
    assert heavy == []


def test_every_public_name_is_there_and_listed() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", "import aiki; print(set(aiki.__all__) - set(dir(aiki)), [n for n in aiki.__all__ if not hasattr(aiki, n)])"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "set() []"

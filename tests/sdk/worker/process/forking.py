"""A worker whose tasks make child processes and end them with signals: `python forking.py asyncio|uvloop`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from aiki import Client, Retry, Run, task, workflow
from aiki.worker import Worker

flow = workflow(os.environ["FLOW"])
FORK = multiprocessing.get_context("fork")


def pool() -> str:
    """A pool ends its processes with SIGTERM."""
    with FORK.Pool(4) as made:
        return str(sum(made.map(abs, range(8))))


def terminated() -> str:
    """What `terminate` is told."""
    process = FORK.Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join()
    return str(process.exitcode)


def forked(number: int) -> str:
    """A child that is sent a signal when it sleeps."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"!")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    os.close(reader)
    os.close(writer)
    os.kill(child, number)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def preexec() -> str:
    """A program that is started by way of Python code in the child."""
    process = subprocess.Popen(["sleep", "60"], preexec_fn=lambda: None)  # noqa: PLW1509  it is what is tried
    process.terminate()
    return str(process.wait())


def escaped(raised: BaseException | None) -> str:
    """A child that comes out of the task instead of ending."""
    child = os.fork()
    if child == 0:
        if raised is not None:
            raise raised
        return "nobody hears this"
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def die(code: int) -> None:
    """In a process of an executor."""
    os._exit(code)


def executor() -> str:
    """Processes of an executor, one of which dies in the middle."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as made:
        total = sum(made.map(abs, range(8)))
        try:
            made.submit(die, 5).result(60)
        except BrokenProcessPool:
            return f"{total} broken"
    return f"{total} whole"


def spawned() -> str:
    """A process of the kind that imports the program again."""
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    process.terminate()
    process.join()
    return str(process.exitcode)


def overdue() -> str:
    """A program that is killed because it takes too long."""
    try:
        subprocess.run(["sleep", "60"], timeout=0.1, check=False)
    except subprocess.TimeoutExpired:
        return "expired"
    return "ended"


def grandchild() -> str:
    """A child that forks again, and ends its child."""
    child = os.fork()
    if child == 0:
        os._exit(0 if forked(signal.SIGTERM) == "-15" else 1)
    return str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


WAYS = {
    "pool": pool,
    "terminated": terminated,
    "SIGTERM": lambda: forked(signal.SIGTERM),
    "SIGUSR1": lambda: forked(signal.SIGUSR1),
    "SIGHUP": lambda: forked(signal.SIGHUP),
    "SIGINT": lambda: forked(signal.SIGINT),
    "raises": lambda: escaped(ValueError("in the child")),
    "exits": lambda: escaped(SystemExit(7)),
    "exits well": lambda: escaped(SystemExit()),
    "exits with a word": lambda: escaped(SystemExit("no")),
    "returns": lambda: escaped(None),
    "preexec": preexec,
    "executor": executor,
    "spawned": spawned,
    "overdue": overdue,
    "grandchild": grandchild,
}


STARTS_PYTHON = ("executor", "spawned")
"""Too long for the loop of a worker."""


@task(retry=Retry.never())
def in_thread(way: str) -> str:
    return WAYS[way]()


@task(retry=Retry.never())
async def in_loop(way: str) -> str:
    return WAYS[way]()


@flow.v("1.0")
async def version(run: Run, way: str) -> list[str]:
    threaded = await in_thread.start(run, way)
    return [threaded, threaded if way in STARTS_PYTHON else await in_loop.start(run, way)]


def main() -> None:
    """Work until a signal."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever runs the tests under nohup has it ignored
    factory = None
    if sys.argv[1] == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(working())
    sys.stdout.write("told\n")


async def working() -> None:
    """Until a signal comes that was meant for the worker."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, os._exit, 3)
    await Worker(Client(), workflows=[flow]).run(grace_seconds=1)


if __name__ == "__main__":
    main()

"""A worker whose tasks make child processes and end them with signals: `python forking.py asyncio|uvloop`."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import time

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
        time.sleep(60)
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


WAYS = {
    "pool": pool,
    "terminated": terminated,
    "SIGTERM": lambda: forked(signal.SIGTERM),
    "SIGUSR1": lambda: forked(signal.SIGUSR1),
    "SIGHUP": lambda: forked(signal.SIGHUP),
    "preexec": preexec,
}


@task(retry=Retry.never())
def in_thread(way: str) -> str:
    return WAYS[way]()


@task(retry=Retry.never())
async def in_loop(way: str) -> str:
    return WAYS[way]()


@flow.v("1.0")
async def version(run: Run, way: str) -> list[str]:
    return [await in_thread.start(run, way), await in_loop.start(run, way)]


def main() -> None:
    """Work until a signal."""
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
    await Worker(Client(), workflows=[flow]).run(grace=1)


if __name__ == "__main__":
    main()

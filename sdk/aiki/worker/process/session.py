"""What a started worker is made of, from its registration until it leaves.

The composition root: every part is made here, in the event loop that it then lives in, and ended here in order.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from aiki.client.transport import Transport
from aiki.errors import ApiError, ServerUnreachable
from aiki.protocol import Assignment, Claimed, Heartbeat, Registered, RegisterRequest
from aiki.worker.background import CANCEL_AGAIN_SECONDS, BackgroundTasks
from aiki.worker.claims.poller import RunPoller
from aiki.worker.link.api import WorkerApi
from aiki.worker.link.clock import DatabaseClockEstimate
from aiki.worker.link.commit_pipe import CommitPipe
from aiki.worker.link.heartbeat import HeartbeatThread, tick_seconds
from aiki.worker.link.inbox_feed import InboxFeed
from aiki.worker.link.lease import WorkerLease
from aiki.worker.link.redis_streams import Streams
from aiki.worker.process.metrics import WorkerFigures
from aiki.worker.registry import WorkflowRegistry
from aiki.worker.runs.activation import Mode
from aiki.worker.runs.active_runs import ActiveRuns
from aiki.worker.tasks.blocking_guard import BlockingGuard
from aiki.worker.tasks.runner import TaskRunner
from aiki.worker.tasks.threads import Threads
from aiki.worker.tasks.watchdog import Watchdog

log = logging.getLogger("aiki.worker")

BLOCK_SECONDS: Final = 2.0
"""How long a read of the streams waits for an entry."""
MAX_THREADS: Final = 256
"""For `def` tasks; more of them wait for a thread."""
LOOK_SECONDS: Final = 0.5
"""Between two looks whether a stopping worker has been left alone by its server."""
LEAVING_SECONDS: Final = 5.0
"""From the end of the grace until everything has ended, whoever does not answer: last commits, cancelled tasks, the farewell."""
LAST_CLAIM_SECONDS: Final = 2.0
"""How long a worker without runs waits for the answer to its last claim."""
LAST_COMMIT_SECONDS: Final = 2.0
"""Of these, for the answers to the last commits."""
FAREWELL_SECONDS: Final = 1.5
"""Of these, for the server's answer to the farewell."""


class WorkerSession:
    """One registered worker at work."""

    def __init__(
        self,
        *,
        transport: Transport,
        api: WorkerApi,
        request: RegisterRequest,
        registered: Registered,
        sent_at: float,
        registry: WorkflowRegistry,
        max_blocking_seconds: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._api = api
        self._request = request
        self._registry = registry
        self._registering = False
        self._lease_serial = 0
        self._hastened = asyncio.Event()
        self._leaving = False
        self._leave_by = inf
        self.unfit = asyncio.Event()
        """Set while this process has lost so many threads to tasks that hang that it gives its runs back."""
        clock = DatabaseClockEstimate(registered.now)
        api.observe = clock.observe
        guard = BlockingGuard()
        self._lease = WorkerLease(registered.lease_seconds, sent_at=sent_at)
        self._pipe = CommitPipe(api.commit)
        self._threads = Threads(min(request.concurrency, MAX_THREADS), on_change=self._threads_changed)
        self._tasks = TaskRunner(threads=self._threads, may_begin=self._lease.holds)
        self.runs = ActiveRuns(
            registry=registry,
            concurrency=request.concurrency,
            lease=self._lease,
            clock=clock,
            pipe=self._pipe,
            tasks=self._tasks,
            guard=guard,
            random=random.random,
            freed=self._wake_poller,
            pause_claims=self._pause_claims,
        )
        url = registered.redis_url
        streams = Streams(url, request.worker, block_seconds=BLOCK_SECONDS) if url else None
        self._poller = RunPoller(claim=self._claim, runs=self.runs, streams=streams, assignment=self._served(registered.assignment))
        self._inbox_feed = InboxFeed(ask=api.inbox, query=self.runs.query, deliver=self.runs.receive)
        self._streams = streams
        self._redis_url = url
        self._inbox_channel = registered.inbox_channel
        self._loops = BackgroundTasks("worker")
        self._claims: asyncio.Task[None] | None = None
        watchdog = Watchdog(
            guard=guard,
            active=self.runs.__len__,
            patience_seconds=max_blocking_seconds,
            tick_seconds=tick_seconds(registered.heartbeat_seconds),
        )
        self._heartbeat = HeartbeatThread(
            url=transport.url,
            credentials=transport.credentials,
            worker=api.worker,
            interval_seconds=registered.heartbeat_seconds,
            lease=self._lease,
            clock=clock,
            active=self.runs.__len__,
            deliver=self._deliver,
            watch=watchdog.look,
        )

        self.figures: Final = WorkerFigures(
            runs=self.runs,
            poller=self._poller,
            pipe=self._pipe,
            tasks=self._tasks,
            threads=self._threads,
            heartbeat=self._heartbeat,
            watchdog=watchdog,
        )

    def start(self) -> None:
        """Start every loop, and the heartbeat's thread."""
        self._heartbeat.start()
        self._loops.start(self._inbox_feed.fetch())
        if self._redis_url is not None:
            self._loops.start(self._inbox_feed.listen(lambda: self._redis_url or "", self._inbox_channel))
        self._claims = self._loops.start(self._poller.run())
        self._loops.start(self._until_left())

    async def drain(self, grace_seconds: float) -> None:
        """Claim no more; give every run back: when its tasks have ended, or after the grace without them.

        No run is given back while a claim is under way or a stream is read: this worker itself could get it.
        """
        grace_ends = self._loop.time() + grace_seconds
        self._leaving = True
        self.runs.give_back(Mode.START_NOTHING)
        await self._stop_claiming(grace_ends)
        self.runs.give_back(Mode.FINISH_TASKS)
        given_back = await self._all_given_back(grace_ends - self._loop.time())
        self._leave_by = self._loop.time() + LEAVING_SECONDS
        if not given_back:
            log.warning("grace is over: tasks are handed back unfinished", extra={"runs": len(self.runs)})
            self._hastened.clear()
            self.runs.give_back(Mode.GIVE_BACK)
            await self._all_given_back(LAST_COMMIT_SECONDS)

    async def _stop_claiming(self, until: float) -> None:
        """End the poller. A claim under way is answered first, for it could be granted what is given back meanwhile.

        Not after the grace, nor for long if there is nothing to give back: then the farewell returns what it has granted.
        """
        idle_until = self._loop.time() + LAST_CLAIM_SECONDS
        while self._claims is not None and not self._claims.done():
            if self._hastened.is_set() or self._loop.time() >= (until if len(self.runs) else min(until, idle_until)):
                self._claims.cancel()
            self._poller.stop()
            await asyncio.wait((self._claims,), timeout=CANCEL_AGAIN_SECONDS)

    def hasten(self) -> None:
        """End the grace now."""
        self._hastened.set()

    async def close(self) -> bool:
        """Stop every part and leave; whether a thread still runs a task that does not end."""
        self._leaving = True
        self._leave_by = min(self._leave_by, self._loop.time() + LEAVING_SECONDS)
        self._heartbeat.stop()
        self.runs.drop()
        await self._pipe.drop()
        await self._loops.close()
        await self._tasks.close(self._left(FAREWELL_SECONDS))
        try:
            async with asyncio.timeout(max(FAREWELL_SECONDS, self._left())):
                await self._api.deregister(patience_seconds=FAREWELL_SECONDS)
        except (ServerUnreachable, ApiError, TimeoutError) as error:
            log.warning("server not told of the stop: it will notice when the lease lapses", extra={"error": error})
        # A daemon: where it waits for a server that does not answer, it ends with the process, or when it is told that nobody did.
        await asyncio.to_thread(self._heartbeat.join, self._left())
        return self._threads.busy > 0

    def _left(self, reserved_seconds: float = 0.0) -> float:
        return max(0.0, self._leave_by - self._loop.time() - reserved_seconds)

    async def _until_left(self) -> None:
        """Ends with the loop: where nobody has stopped the worker, it must not go without a word."""
        try:
            await self._loop.create_future()
        except asyncio.CancelledError:
            if not self._leaving:
                log.error(  # noqa: TRY400  a stack of asyncio's own says nothing
                    "the program ends while its worker works: `await worker.run()` works until a signal; "
                    "after `await worker.start()` keep the program going, and `await worker.stop()` at its end",
                    extra={"worker": self._api.worker, "runs": len(self.runs)},
                )
            raise

    # ---- the lease

    def _deliver(self, heartbeat: Heartbeat) -> None:
        """In the heartbeat's thread."""
        try:
            self._loop.call_soon_threadsafe(self._on_heartbeat, heartbeat)
        except RuntimeError:
            log.debug("loop closed before its heartbeat")

    def _on_heartbeat(self, heartbeat: Heartbeat) -> None:
        if not heartbeat.known:
            self._on_unknown()
            return
        if self._streams is not None and heartbeat.redis_url not in (None, self._redis_url):
            self._redis_url = heartbeat.redis_url
            self._loops.start(self._streams.use(self._redis_url or ""))
        self._poller.assign(self._served(heartbeat.assignment))
        self._inbox_feed.tell(heartbeat.inbox_pending)
        # Where the lease was in doubt, effects may start and runs be claimed again.
        self.runs.touch_held_back()
        self._wake_poller()

    def _on_unknown(self) -> None:
        if not self._registering:
            self._registering = True
            self._loops.start(self._register_again())

    async def _register_again(self) -> None:
        """The server has given our runs to others: forget them, and enter again."""
        log.warning("lease lapsed: runs dropped", extra={"worker": self._api.worker, "runs": len(self.runs)})
        self._lease_serial += 1
        try:
            self.runs.drop()
            await self._pipe.drop()
            sent_at = time.monotonic()
            registered = await self._api.register(self._request)
            self._lease_serial += 1
            self._heartbeat.lapsed += 1
            self._api.observe(registered.now)
            self._lease.renewed(sent_at)
            self._poller.assign(self._served(registered.assignment))
            self._wake_poller()
            log.info("worker registered again", extra={"worker": self._api.worker})
        except (ServerUnreachable, ApiError) as error:
            log.warning("registration failed", extra={"worker": self._api.worker, "error": error})
        finally:
            self._registering = False  # after a failure the next heartbeat says again that we are unknown

    # ---- threads that are lost to tasks that hang

    def _threads_changed(self) -> None:
        if self._leaving:
            return
        extra = {"worker": self._api.worker, "threads_lost": self._threads.lost()}
        if self._threads.exhausted:
            log.error(
                "too many threads hang in `def` tasks that are over: the worker gives its runs back and takes no more; "
                "see to it that what these tasks call has a timeout of its own",
                extra=extra,
            )
            self.runs.give_back(Mode.FINISH_TASKS)
            self._poller.interrupt()
            self.unfit.set()
        else:
            log.info("threads have come back: the worker takes on runs again", extra=extra)
            self.unfit.clear()
            self.runs.go_on()
            self._wake_poller()

    # ---- small things

    def _served(self, assignment: Assignment) -> Assignment:
        return assignment.model_copy(update={"streams": self._registry.read_streams(assignment.streams)})

    async def _claim(self, runs: Sequence[str] | None, limit: int, held: Sequence[str] | None) -> Claimed:
        carries = None if runs is not None else self._request.workflows
        lease_serial = self._lease_serial
        try:
            claimed = await self._api.claim(runs, limit=limit, held=held, carries=carries)
        except ApiError as error:
            if error.problem.type.endswith("unknown-worker"):
                self._on_unknown()
            raise
        if self._registering or self._lease_serial != lease_serial:
            # What it grants may long be others'. As after a lost answer, the next claim finds out what is still ours.
            raise ServerUnreachable("the answer is of a lease that lapsed meanwhile")
        return claimed

    def _wake_poller(self) -> None:
        self._poller.wake()

    def _pause_claims(self, then: Callable[[], None]) -> bool:
        return self._poller.pause_claims(then)

    async def _server_gone(self) -> None:
        """Until nobody is there who could take what the tasks result in, as when a whole namespace is deleted."""
        while not self._lease.is_long_gone():  # noqa: ASYNC110  the heartbeat's thread renews it
            await asyncio.sleep(LOOK_SECONDS)

    async def _all_given_back(self, seconds: float) -> bool:
        given_back = self._loops.start(self.runs.given_back())
        hastened = self._loops.start(self._hastened.wait())
        alone = self._loops.start(self._server_gone())
        await asyncio.wait((given_back, hastened, alone), timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
        hastened.cancel()
        alone.cancel()
        return given_back.done() or not given_back.cancel()

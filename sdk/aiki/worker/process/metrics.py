"""The figures of a worker at work, read off its parts when somebody asks; nothing is counted twice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from aiki.worker.claims.poller import RunPoller
from aiki.worker.link.commit_pipe import CommitPipe
from aiki.worker.link.heartbeat import HeartbeatThread
from aiki.worker.metrics.exposition import Family, single
from aiki.worker.runs.active_runs import ActiveRuns
from aiki.worker.tasks.runner import TaskRunner
from aiki.worker.tasks.threads import Threads
from aiki.worker.tasks.watchdog import Watchdog


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """Made by the session, of whose parts it tells."""

    runs: ActiveRuns
    poller: RunPoller
    pipe: CommitPipe
    tasks: TaskRunner
    threads: Threads
    heartbeat: HeartbeatThread
    watchdog: Watchdog

    def families(self) -> Iterator[Family]:
        """All of them."""
        yield from self._runs()
        yield from self._commits()
        yield from self.tasks.figures.families()
        yield single("aiki_tasks_running", "gauge", "Attempts of tasks that are under way.", self.tasks.running)
        yield from self._threads()
        yield from self._lease()

    def _runs(self) -> Iterator[Family]:
        runs, poller = self.runs, self.poller
        slots = Family("aiki_worker_slots", "gauge", "Runs in hand, and how many more would be taken on now.", ("state",))
        yield slots.add("used", value=len(runs)).add("free", value=max(0, runs.free()))
        yield single("aiki_worker_activations_total", "counter", "Runs whose code was taken up.", runs.activations)
        claims = Family("aiki_worker_claims_total", "counter", "Requests for runs.", ("outcome",))
        yield claims.add("answered", value=poller.claims - poller.claims_failed).add("failed", value=poller.claims_failed)
        yield single("aiki_worker_claimed_runs_total", "counter", "Runs that claims were answered with.", poller.claimed)
        yield single(
            "aiki_worker_polling", "gauge", "1 while the worker polls because there is no Redis that can be used.", float(poller.polling)
        )

    def _commits(self) -> Iterator[Family]:
        pipe = self.pipe
        yield single(
            "aiki_worker_commit_queued", "gauge", "Runs that may have something to write and wait for the next commit.", pipe.queued
        )
        yield single("aiki_worker_commits_in_flight", "gauge", "Writes that wait for the server's answer.", pipe.under_way)
        yield single("aiki_worker_committed_total", "counter", "Writes that were answered.", pipe.committed)
        yield single("aiki_worker_commit_failures_total", "counter", "Commits that were not answered or not taken.", pipe.failures)
        seconds = Family("aiki_worker_commit_seconds", "histogram", "From when a commit was first sent until it was answered.")
        seconds.histograms.append(((), pipe.seconds.buckets, pipe.seconds.sum))
        yield seconds

    def _threads(self) -> Iterator[Family]:
        threads, watchdog = self.threads, self.watchdog
        yield single("aiki_worker_threads_busy", "gauge", "Threads in which a `def` task runs, lost ones with them.", threads.busy)
        yield single("aiki_worker_threads_lost", "gauge", "Of these, threads whose task is over.", sum(threads.lost().values()))
        blocked = Family("aiki_worker_loop_blocked_total", "counter", "How often code blocked the worker's loop.", ("cause",))
        yield blocked.add("workflow", value=watchdog.interrupted).add("task", value=watchdog.blocked)

    def _lease(self) -> Iterator[Family]:
        heartbeat = self.heartbeat
        beats = Family("aiki_worker_heartbeats_total", "counter", "Heartbeats.", ("outcome",))
        yield beats.add("answered", value=heartbeat.answered).add("unanswered", value=heartbeat.unanswered)
        age = time.monotonic() - heartbeat.answered_at
        yield single("aiki_worker_heartbeat_age_seconds", "gauge", "Since the last heartbeat that was answered was sent.", age)
        yield single(
            "aiki_worker_leases_expired_total",
            "counter",
            "How often the worker registered again, because its runs were given to others.",
            heartbeat.lapsed,
        )

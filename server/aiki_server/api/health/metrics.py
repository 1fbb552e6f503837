"""The server's figures for Prometheus, read off the engine when asked for; nothing counts twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aiki_server.api.context import Context
from aiki_server.api.health.outcomes import outcome_figures, speed_figures


class Figures(Collector):
    """One reading. `counts` are the open runs by namespace and status; None where the database is away.

    With a `namespace` no other one is named.
    """

    def __init__(self, context: Context, counts: list[tuple[str, str, int]] | None, *, namespace: str | None) -> None:
        self._quota_refusals = context.quotas.refused
        self._engine = context.engine
        self._doors = context.doors
        self._traffic = context.traffic
        self._namespace = namespace
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._runs()
        yield from outcome_figures(self._engine, namespace=self._namespace)
        yield from speed_figures(self._engine, self._traffic)
        yield from self._batches()
        yield from self._loops()
        engine = self._engine
        yield GaugeMetricFamily("aiki_database_up", "Whether the database answers.", value=float(self._counts is not None))
        pools = (engine.pool, engine.reads, engine.vital)
        yield CounterMetricFamily(
            "aiki_database_lost", "Connections to the database that ended while they were in use.", value=sum(pool.lost for pool in pools)
        )
        yield GaugeMetricFamily(
            "aiki_database_waiting", "How many wait for a connection to the database.", value=sum(pool.waiting for pool in pools)
        )
        yield GaugeMetricFamily("aiki_database_connections", "Open connections to the database.", value=sum(pool.size for pool in pools))
        yield GaugeMetricFamily(
            "aiki_database_archive_failing",
            "1 where Postgres could not hand on its log when it tried last.",
            value=float(engine.keeper.archive_fails),
        )
        if (current := engine.incarnations.current) is not None:
            yield GaugeMetricFamily(
                "aiki_incarnation", "1, and one more for each time that the database was restored.", value=current.number
            )
        yield from self._redis()
        yield from self._rescues()
        yield from self._unserved()
        yield CounterMetricFamily("aiki_stream_refilled", "Entries that streams had lost.", value=engine.refill.refilled)
        yield CounterMetricFamily(
            "aiki_fast_commits", "Ops of runs that were written without reading their rows.", value=engine.lanes.quick
        )
        yield CounterMetricFamily("aiki_retention_deleted_runs", "Old runs deleted.", value=engine.retention.deleted)
        yield GaugeMetricFamily("aiki_result_waiters", "Requests that wait for a run to end.", value=engine.results.waiters)
        yield GaugeMetricFamily("aiki_timer_lateness_seconds", "How late the most overdue run is.", value=engine.timers.lateness)
        yield GaugeMetricFamily("aiki_connections", "Open connections of clients.", value=len(self._doors.open))
        yield CounterMetricFamily(
            "aiki_connections_turned_away", "Connections closed because there were too many.", value=self._doors.turned_away
        )
        yield CounterMetricFamily(
            "aiki_connections_refused", "Connections closed for what they sent, or did not send or read in time.", value=self._doors.refused
        )
        yield CounterMetricFamily(
            "aiki_quota_refusals", "Requests refused because a namespace asked for too much.", value=self._quota_refusals
        )

    def _rescues(self) -> Iterator[Metric]:
        """Zero where all are well: what was lost on its way is found by a fallback, later than it should have been."""
        engine = self._engine
        rescues = CounterMetricFamily("aiki_rescues", "What a fallback found because nobody had told of it.", labels=["cause"])
        rescues.add_metric(["refill"], engine.refill.refilled)  # runs whose stream had lost them
        rescues.add_metric(["result"], engine.results.rescued)  # waiters for a run that had ended
        rescues.add_metric(["children"], engine.sweeper.rescued)  # ended parents whose children were not told
        rescues.add_metric(["lease"], engine.sweeper.lost)  # runs of workers that fell silent, and whose death nobody reported
        rescues.add_metric(["poll"], engine.polled)  # runs that a worker asked Postgres for while Redis could be used
        rescues.add_metric(["claim"], engine.claims.granted_again)  # runs that an answer which got lost had granted
        rescues.add_metric(["assign"], engine.registry.rescued)  # runs that waited for a registration, found by a sweep after it
        yield rescues

    def _unserved(self) -> Iterator[Metric]:
        labels = ["namespace", "workflow", "version"]
        runs = GaugeMetricFamily("aiki_unserved_runs", "Queued runs that no live worker serves.", labels=labels)
        oldest = GaugeMetricFamily("aiki_unserved_oldest_seconds", "For how long the oldest of them has been queued.", labels=labels)
        for kind, waiting in self._engine.sweeper.unserved.found.items():
            if self._namespace in (None, kind.namespace):
                runs.add_metric(list(kind), waiting.runs)
                oldest.add_metric(list(kind), waiting.oldest_seconds)
        yield runs
        yield oldest

    def _redis(self) -> Iterator[Metric]:
        engine = self._engine
        yield GaugeMetricFamily("aiki_redis_up", "Whether Redis does all that is needed of it.", value=float(engine.circuit.usable))
        trouble = GaugeMetricFamily("aiki_redis_trouble", "1 for why Redis cannot be used; none where it can.", labels=["kind"])
        if engine.circuit.trouble is not None:
            trouble.add_metric([engine.circuit.trouble.kind], 1)
        elif engine.listener is not None and engine.listener.trouble is not None:
            trouble.add_metric([f"not_listening_{engine.listener.trouble.kind}"], 1)
        if engine.doorbell.spoiled:
            trouble.add_metric(["wrong_type"], len(engine.doorbell.spoiled))
        yield trouble
        access = GaugeMetricFamily("aiki_redis_access", "1 for what workers are given of Redis: users, shared or none.", labels=["kind"])
        access.add_metric([str(engine.redis_users.access)], 1)
        yield access
        yield CounterMetricFamily("aiki_redis_failures", "How often Redis was found to fail.", value=engine.circuit.failures)
        yield CounterMetricFamily("aiki_redis_dropped", "Messages that Redis did not take.", value=engine.doorbell.dropped)

    def _runs(self) -> Iterator[Metric]:
        runs = GaugeMetricFamily("aiki_runs", "Runs that have not ended.", labels=["namespace", "status"])
        for namespace, status, count in self._counts or ():
            if self._namespace in (None, namespace):
                runs.add_metric([namespace, status], count)
        yield runs
        workers = GaugeMetricFamily("aiki_workers", "Registered workers.", labels=["namespace", "pool"])
        places = [(worker.namespace, worker.pool) for worker in self._engine.registry.workers.values()]
        for (namespace, pool), count in sorted(Counter(places).items()):
            if self._namespace in (None, namespace):
                workers.add_metric([namespace, pool], count)
        yield workers

    def _batches(self) -> Iterator[Metric]:
        batches = CounterMetricFamily("aiki_batches", "Group commits.", labels=["batcher"])
        items = CounterMetricFamily("aiki_batch_items", "What they wrote.", labels=["batcher"])
        for batcher in self._engine.batchers:
            batches.add_metric([batcher.name], batcher.batches)
            items.add_metric([batcher.name], batcher.items)
        yield batches
        yield items

    def _loops(self) -> Iterator[Metric]:
        healthy = GaugeMetricFamily("aiki_loop_healthy", "Whether a background loop turned lately.", labels=["loop"])
        errors = CounterMetricFamily("aiki_loop_errors", "Turns that failed.", labels=["loop"])
        for loop in self._engine.loops:
            healthy.add_metric([loop.name], float(loop.healthy))
            errors.add_metric([loop.name], loop.errors)
        yield healthy
        yield errors

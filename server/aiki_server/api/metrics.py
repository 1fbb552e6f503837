"""The server's figures for Prometheus, read off the engine when asked for; nothing counts twice."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aiki_server.engine.service import Engine


class Figures(Collector):
    """One reading. `counts` are the open runs by namespace and status; None where the database is away."""

    def __init__(self, engine: Engine, counts: list[tuple[str, str, int]] | None) -> None:
        self._engine = engine
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """All metrics."""
        yield from self._runs()
        yield from self._batches()
        yield from self._loops()
        engine = self._engine
        yield GaugeMetricFamily("aiki_database_up", "Whether the database answers.", value=float(self._counts is not None))
        yield GaugeMetricFamily("aiki_redis_up", "Whether Redis took the last messages.", value=float(engine.doorbell.up))
        yield CounterMetricFamily("aiki_redis_dropped", "Messages that Redis was not there to take.", value=engine.doorbell.dropped)
        yield CounterMetricFamily("aiki_stream_refilled", "Entries that streams had lost.", value=engine.refill.refilled)
        yield CounterMetricFamily(
            "aiki_quick_commits", "Ops of runs that were written without reading their rows.", value=engine.lanes.quick
        )
        yield CounterMetricFamily("aiki_retired_runs", "Old runs deleted.", value=engine.retention.deleted)
        yield GaugeMetricFamily("aiki_result_waiters", "Requests that wait for a run to end.", value=engine.results.waiters)
        yield GaugeMetricFamily("aiki_timer_lateness_seconds", "How late the most overdue run is.", value=engine.timers.lateness)
        yield GaugeMetricFamily("aiki_database_connections", "Open connections to the database.", value=engine.pool.size)

    def _runs(self) -> Iterator[Metric]:
        runs = GaugeMetricFamily("aiki_runs", "Runs that have not ended.", labels=["namespace", "status"])
        for namespace, status, count in self._counts or ():
            runs.add_metric([namespace, status], count)
        yield runs
        workers = GaugeMetricFamily("aiki_workers", "Registered workers.", labels=["namespace", "pool"])
        places = [(worker.namespace, worker.pool) for worker in self._engine.registry.workers.values()]
        for namespace, pool in sorted(set(places)):
            workers.add_metric([namespace, pool], places.count((namespace, pool)))
        yield workers

    def _batches(self) -> Iterator[Metric]:
        batches = CounterMetricFamily("aiki_batches", "Group commits.", labels=["of"])
        items = CounterMetricFamily("aiki_batched", "What they wrote.", labels=["of"])
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

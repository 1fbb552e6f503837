"""How runs ended, how long they were queued, and what requests and commits took, in the form of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from operator import itemgetter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from aiki_server.api.http.traffic import Traffic
from aiki_server.engine.runtime.histogram import Histogram
from aiki_server.engine.service import Engine
from aiki_server.engine.watch.outcomes import OTHER
from aiki_server.model.sweeps import Backlog

MOST_PLACES = 50
"""Pools and workflows of each namespace of which it is said how long their runs have been queued; the rest is one."""


def outcome_figures(engine: Engine, *, namespace: str | None) -> Iterator[Metric]:
    """Of all namespaces, or of one."""
    tenants = {name: tenant for name, tenant in sorted(engine.outcomes.tenants.items()) if namespace in (None, name)}
    ended = CounterMetricFamily("aiki_runs_ended", "Runs that ended.", labels=["namespace", "workflow", "status", "error"])
    queued = HistogramMetricFamily(
        "aiki_queued_seconds", "Seconds from when a run was queued to when a worker had it.", labels=["namespace", "pool", "cause"]
    )
    events = HistogramMetricFamily(
        "aiki_event_delivery_seconds", "Seconds from an event to the worker that has it.", labels=["namespace", "pool"]
    )
    for name, tenant in tenants.items():
        for key, count in tenant.ended.items():
            ended.add_metric([name, *key], count)
        for (pool, by), histogram in tenant.queued.items():
            _add(queued, [name, pool, by], histogram)
        for pool, histogram in tenant.events.items():
            _add(events, [name, pool], histogram)
    yield from (ended, queued, events)
    oldest = GaugeMetricFamily(
        "aiki_queued_oldest_seconds",
        "For how long the oldest queued run has waited, where any has for seconds.",
        labels=["namespace", "pool", "workflow"],
    )
    for place, seconds in _oldest([one for one in engine.sweeper.backlogs if namespace in (None, one.namespace)]).items():
        oldest.add_metric(list(place), seconds)
    yield oldest


def speed_figures(engine: Engine, traffic: Traffic) -> Iterator[Metric]:
    """Of the process, whatever the namespace."""
    batches = HistogramMetricFamily("aiki_batch_seconds", "What a group commit took.", labels=["batcher"])
    waiting = GaugeMetricFamily("aiki_batch_queued", "What waits for the next group commit.", labels=["batcher"])
    for batcher in engine.batchers:
        _add(batches, [batcher.name], batcher.seconds)
        waiting.add_metric([batcher.name], batcher.queued)
    yield from (batches, waiting)
    requests = HistogramMetricFamily(
        "aiki_http_request_seconds", "What a request took, with what it waited for.", labels=["method", "route"]
    )
    for labels, histogram in sorted(traffic.seconds.items(), key=itemgetter(0)):
        _add(requests, list(labels), histogram)
    answers = CounterMetricFamily("aiki_http_requests", "Requests, by how they were answered.", labels=["method", "route", "status"])
    for key, count in sorted(traffic.answers.items()):
        answers.add_metric(list(key), count)
    yield from (requests, answers)


def _oldest(backlogs: list[Backlog]) -> dict[tuple[str, str, str], float]:
    """By namespace, pool and workflow; those that have waited longest have a figure of their own."""
    found: dict[tuple[str, str, str], float] = {}
    places = Counter[str]()
    for one in sorted(backlogs, key=lambda one: -one.oldest_seconds):
        place = (one.namespace, one.pool or "", one.workflow)
        if place not in found and places[one.namespace] >= MOST_PLACES:
            place = (one.namespace, OTHER, OTHER)
        places[one.namespace] += place not in found
        found.setdefault(place, one.oldest_seconds)
    return found


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    family.add_metric(labels, buckets=histogram.buckets, sum_value=histogram.sum)

"""Metrics and logs of the operator. No line of a log has the content of a Secret, nor the value of a variable (aiki.shared.logs)."""

from __future__ import annotations

import logging
import sys

from prometheus_client import Counter, Gauge, Histogram

from aiki.shared.logs import Fields, JsonLines, log_to
from aiki.shared.redaction import Redactor
from aiki_operator.names import POOL_KIND, SERVER_KIND

API_REQUESTS = Counter("aiki_operator_api_requests_total", "Requests to the Kubernetes API.", ["method", "kind", "code"])
SERVER_REQUESTS = Counter("aiki_operator_server_requests_total", "Requests to Aiki servers.", ["method", "code"])
LEADER = Gauge("aiki_operator_leader", "1 where this replica holds the Lease.")
YIELDS = Gauge(
    "aiki_operator_yields",
    "1 where this replica leads and another installation of the operator acts for the AikiServer.",
    ["namespace", "name"],
)
TURNS = Histogram("aiki_operator_reconcile_seconds", "Duration of one turn over a server and its pools.")
FAILED_TURNS = Counter("aiki_operator_reconcile_errors_total", "Turns that ended in an error.", ["kind"])
POOL_REPLICAS = Gauge("aiki_pool_replicas", "Pods wanted.", ["namespace", "pool"])
POOL_QUEUED = Gauge("aiki_pool_queued", "Runs that wait for a worker.", ["namespace", "pool"])
POOL_RUNNING = Gauge("aiki_pool_running", "Runs in the hands of workers.", ["namespace", "pool"])
POOL_LAG = Gauge(
    "aiki_pool_stream_lag", "Stream entries that no worker has been given; -1 while Redis does not answer.", ["namespace", "pool"]
)
POOL_UNSERVED = Gauge("aiki_pool_unserved", "Queued runs that no worker will ever serve, as things are.", ["namespace", "pool"])
POOL_ROLLOUT_PERCENT = Gauge(
    "aiki_pool_rollout_percent", "Percent of the new runs that the build of the spec gets; 100 where it serves.", ["namespace", "pool"]
)
POOL_ROLLOUT_HELD = Gauge("aiki_pool_rollout_held", "1 where the gate of a roll-out holds a build.", ["namespace", "pool"])
POOL_RESIZED = Counter("aiki_pool_resized_total", "Changes of size.", ["namespace", "pool"])
REJECTIONS = Counter("aiki_operator_rejections_total", "Writes that the Kubernetes API did not take.", ["kind", "reason"])
CONDITION = Gauge("aiki_condition", "1 true, 0 false, -1 unknown.", ["kind", "namespace", "name", "type"])
BACKUP_SUCCESS = Gauge(
    "aiki_backup_last_success_timestamp_seconds",
    "When the managed Postgres was backed up last, in seconds since 1970.",
    ["namespace", "name"],
)
BACKUP_OLDEST = Gauge(
    "aiki_backup_oldest_restorable_timestamp_seconds",
    "The earliest point in time that it can be restored to, in seconds since 1970.",
    ["namespace", "name"],
)
DEAD_WORKERS = Counter("aiki_operator_dead_workers_total", "Workers reported as dead.", ["namespace", "pool"])

KOPFS = ("settings", "k8s_ref", "k8s_skip")
"""What kopf puts into its records: its own settings, the object that it is at, and whether it should make an event of Kubernetes of the line."""


def forget_figures(kind: str, namespace: str, name: str) -> None:
    """An object is gone: what was measured of it last must not look true for ever."""
    CONDITION.remove_by_labels({"kind": kind, "namespace": namespace, "name": name})
    if kind == SERVER_KIND:
        for figure in (YIELDS, BACKUP_SUCCESS, BACKUP_OLDEST):
            figure.remove_by_labels({"namespace": namespace, "name": name})
    if kind == POOL_KIND:
        of_pool = (
            POOL_REPLICAS,
            POOL_QUEUED,
            POOL_RUNNING,
            POOL_LAG,
            POOL_UNSERVED,
            POOL_ROLLOUT_PERCENT,
            POOL_ROLLOUT_HELD,
            POOL_RESIZED,
            DEAD_WORKERS,
        )
        for measured in of_pool:
            measured.remove_by_labels({"namespace": namespace, "pool": name})


def log_fields(redactor: Redactor) -> Fields:
    """What the operator writes of a record."""
    return Fields(redactor, without=KOPFS, objects=False)


def log_json(level: str) -> None:
    """All logs of the process to standard output, in the form that all of Aiki has (aiki.shared.logs)."""
    log_to(sys.stdout, JsonLines(log_fields(Redactor.of_environment())), level=level.upper())
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)

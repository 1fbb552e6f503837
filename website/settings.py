"""The page of all settings: every AIKI_* variable that any part reads, with its type, its default and its meaning.

Defaults are asked of the code, so they cannot be wrong. tests/docs/test_reference.py compares the names with those that the code holds.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiki import Worker
from aiki.protocol import DEFAULT_URL
from aiki_server.settings import Settings

SERVER = Settings.from_environment({"AIKI_DATABASE_URL": "postgresql://h/d", "AIKI_TOKENS": "default:" + "x" * 32})
LIMITS = SERVER.limits
MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable of the environment; `default` is None if the variable has to be set, or if being absent is the default."""

    name: str
    kind: str
    meaning: str
    default: Any = None

    def row(self) -> str:
        """A row of the table; the name is an anchor."""
        default = "" if self.default is None else f"`{_plain(self.default)}`"
        return f'| <a id="{self.name}"></a>`{self.name}` | {self.kind} | {default} | {self.meaning} |'


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) and value < MIB else f"{value}"


def _worker(parameter: str) -> Any:
    return inspect.signature(Worker).parameters[parameter].default


GROUPS: Sequence[tuple[str, str, Sequence[Setting]]] = (
    (
        "Clients, workers and the command line",
        "`Client()`, `Worker`, and every command that talks to a server.",
        (
            Setting("AIKI_URL", "URL", "Where the server is.", DEFAULT_URL),
            Setting(
                "AIKI_TOKEN",
                "text",
                "The token of your namespace. Beside `aiki dev` it is not needed: clients and workers read `.aiki/token`.",
            ),
        ),
    ),
    (
        "A worker",
        "`aiki worker MODULE`, and `Worker` in a program of your own where the table says so.",
        (
            Setting("AIKI_POOL", "name", "The pool to which the worker belongs (`--pool`).", _worker("pool")),
            Setting("AIKI_CONCURRENCY", "number", "How many runs the worker executes at a time (`--concurrency`).", _worker("concurrency")),
            Setting(
                "AIKI_GRACE_SECONDS",
                "seconds",
                "How long tasks may go on after SIGTERM, before the worker hands them back. `Worker.run()` reads it too.",
                24,
            ),
            Setting(
                "AIKI_HEALTH_PORT",
                "port",
                "Where the worker answers `/livez`, `/readyz` and, to whoever shows a token, `/metrics`. Absent: nowhere. `Worker.run()` reads it too.",
            ),
            Setting("AIKI_BUILD", "name", "The build of the image; the operator sets it. `Worker` reads it too."),
            Setting("AIKI_POD", "name", "The name of the pod; the operator sets it. `Worker` reads it too."),
        ),
    ),
    (
        "A server",
        "`aiki server` and `python -m aiki_server`.",
        (
            Setting("AIKI_DATABASE_URL", "URL", "`postgresql://user:password@host/database`; Postgres 14 or newer. It must be set."),
            Setting(
                "AIKI_REDIS_URL",
                "URL",
                "`redis://host:6379`; Redis or Valkey 6.2 or newer with `maxmemory-policy noeviction`; [what it needs](../operate/redis.md). Absent: workers poll.",
            ),
            Setting("AIKI_WORKER_REDIS_URL", "URL", "The same Redis as workers reach it, if that differs."),
            Setting(
                "AIKI_TOKENS",
                "list",
                "`namespace:token`, separated by commas or lines. A token has letters, digits and any of `- . _ ~ + / =`, and belongs to one namespace. "
                "Make it with `openssl rand -hex 32`: the server refuses one of fewer than 8 characters, and warns of one of fewer than 16. "
                "It refuses as well the name of a namespace in place of a token, a short token that is shorter than the name before it "
                "(whoever swaps the two writes such entries), and one token in two entries. "
                "One token alone needs no namespace: it is that of `default`. "
                "Without tokens the server starts only with `--insecure`, on loopback.",
            ),
            Setting("AIKI_TOKENS_FILE", "path", "A file with more of the same."),
            Setting(
                "AIKI_CLIENT_TOKENS",
                "list",
                "Of the same form. These tokens start, read and control runs. They cannot be a worker, get no Redis, and change no pools.",
            ),
            Setting("AIKI_CLIENT_TOKENS_FILE", "path", "A file with more of the same."),
            Setting(
                "AIKI_METRICS_TOKEN",
                "text",
                "Reads `/metrics` of all namespaces, and nothing else. The token of a namespace reads that of its own. "
                "In the Secret of a pool's workers the key of this name holds the token that reads their figures.",
            ),
            Setting("AIKI_HOST", "address", "The address on which the server listens (`--host`).", SERVER.host),
            Setting("AIKI_PORT", "port", "The port on which it listens (`--port`). `aiki dev` reads it too.", SERVER.port),
            Setting(
                "AIKI_ALLOWED_HOSTS",
                "list",
                "The names by which requests may call the server, separated by commas. On loopback the names of loopback are allowed too, and no others; "
                "elsewhere any name is, if this is not set. Set it behind a proxy on the same machine.",
            ),
            Setting("AIKI_RETENTION_DAYS", "days", "How long runs that have ended are kept; 0: for ever.", SERVER.retention_days),
            Setting(
                "AIKI_REGISTRATION_RETENTION_DAYS",
                "days",
                "How long the server remembers what workers have registered and nobody has carried, needed or kept since ([the rule](../internals/protocol.md#builds)); 0: for ever.",
                SERVER.registration_days,
            ),
            Setting(
                "AIKI_LEASE_SECONDS",
                "seconds",
                "How long a worker may be silent before its runs go to others. Workers send a heartbeat each third of it.",
                SERVER.lease_seconds,
            ),
            Setting(
                "AIKI_SHUTDOWN_DELAY_SECONDS",
                "seconds",
                "How long a server that is asked to end goes on answering, each answer the last of its connection.",
                SERVER.shutdown_delay_seconds,
            ),
            Setting(
                "AIKI_DATABASE_CONNECTIONS",
                "number",
                "Connections to Postgres, at least 6. A quarter of them are for listings, and one for heartbeats.",
                SERVER.connections,
            ),
            Setting("AIKI_COMMIT_LANES", "number", "How many groups of commits may be under way at a time.", SERVER.lanes),
            Setting(
                "AIKI_MAX_CONNECTIONS",
                "number",
                "How many clients may be connected at a time; fewer if the system lets the process have fewer files open.",
                SERVER.most_connections,
            ),
            Setting(
                "AIKI_QUOTA_REQUESTS_PER_SECOND",
                "number",
                "Requests a second of one namespace to one server, with two seconds' worth at once; 0: without a limit.",
                LIMITS.requests_per_second,
            ),
            Setting("AIKI_QUOTA_WORKERS", "number", "Workers of a namespace.", LIMITS.workers),
            Setting("AIKI_QUOTA_REGISTRATIONS", "number", "Versions of workflows that a namespace has registered.", LIMITS.registrations),
            Setting("AIKI_QUOTA_OPEN_RUNS", "number", "Runs of a namespace that have not ended; 0: without a limit.", LIMITS.open_runs),
            Setting(
                "AIKI_QUOTA_BODIES_MIB",
                "MiB",
                "Large bodies and answers of one namespace that are under way.",
                LIMITS.namespace_bytes // MIB,
            ),
            Setting("AIKI_MAX_BODIES_MIB", "MiB", "The same of all namespaces together.", LIMITS.server_bytes // MIB),
            Setting(
                "AIKI_MIGRATE",
                "0 or 1",
                "Whether the server migrates the schema when it starts. The operator sets 0, because a Job has done it.",
                int(SERVER.migrate),
            ),
            Setting(
                "AIKI_ALLOW_UNSAFE_DATABASE",
                "0 or 1",
                "Start on a Postgres that may lose what it acknowledged (`fsync` or `synchronous_commit` off). For tests only.",
                int(SERVER.unsafe_database),
            ),
            Setting("AIKI_LOG_LEVEL", "level", "DEBUG, INFO, WARNING, ERROR or CRITICAL. The operator reads it too.", "INFO"),
            Setting("AIKI_FAULT", "text", "Kills the server at a named point. For tests only."),
        ),
    ),
    (
        "The operator",
        "The chart sets all of them; its values are what you change.",
        (
            Setting(
                "AIKI_NAMESPACES",
                "list",
                "The Kubernetes namespaces that the operator serves, separated by commas. Absent: the whole cluster.",
            ),
            Setting("AIKI_OPERATOR_NAMESPACE", "name", "Where the operator itself is, and its Lease.", "default"),
            Setting("AIKI_OPERATOR_POD", "name", "Who holds the Lease. Absent: the name of the host."),
            Setting("AIKI_OPERATOR_LEASE", "name", "The name of the Lease.", "aiki-operator"),
            Setting("AIKI_OPERATOR_PORT", "port", "Where probes and `/metrics` answer.", 8081),
            Setting("AIKI_OPERATOR_SERVICE_ACCOUNTS", "list", "Service accounts that no template of a user may name."),
            Setting("AIKI_ALLOW_UNSAFE_TEMPLATES", "0 or 1", "Whether templates may ask for what gives them the node.", 0),
            Setting("AIKI_SERVER_IMAGE", "image", "The image of servers and migrations.", "aiki-server:latest"),
            Setting("AIKI_POSTGRES_IMAGE", "image", "The image of a managed Postgres with backups.", "aiki-postgres:latest"),
        ),
    ),
    (
        "Set by the chart and the operator for their own Jobs",
        "You never set these.",
        (
            Setting("AIKI_SERVER_MANIFEST", "JSON", "The first AikiServer, which a Job of the chart applies."),
            Setting("AIKI_PASSWORD", "text", "The password that a managed Postgres takes over when it starts."),
            Setting("AIKI_RESTORE", "text", "Which restore a Job is to make; it makes each once."),
            Setting("AIKI_RESTORE_TIME", "instant", "To which point in time."),
        ),
    ),
)


def made() -> str:
    """The tables."""
    parts = []
    for title, said, settings in GROUPS:
        rows = "\n".join(setting.row() for setting in settings)
        parts.append(f"## {title}\n\n{said}\n\n| variable | type | default | meaning |\n|---|---|---|---|\n{rows}\n")
    return "\n".join(parts)

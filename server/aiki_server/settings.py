"""The server's settings, from the environment: read once, checked, then passed on as one value."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aiki.protocol import DEFAULT_PORT, GOOD_TOKEN_LENGTH, HEARTBEAT_SECONDS, LEASE_SECONDS, LOOPBACK, NAME_PATTERN, least_token_length
from aiki.shared.redaction import HIDDEN
from aiki_server.faults import Faults

BEARER_PATTERN = r"[A-Za-z0-9\-._~+/]+=*"
"""What a bearer token is made of (RFC 6750)."""


class SettingsError(Exception):
    """The environment does not say what the server needs; the message says what to set."""


SCHEMES = {
    "AIKI_DATABASE_URL": ("postgresql", "postgres"),
    "AIKI_REDIS_URL": ("redis", "rediss", "unix"),
    "AIKI_WORKER_REDIS_URL": ("redis", "rediss", "unix"),
}
HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d+)?")


class Secret(str):
    """Text that connections are made with, and that nobody sees: what shows a value that holds it, or puts it into a message, gets three stars.

    `str()` of it is the text, because the drivers ask for it so; logs lose what is left of it (aiki.shared.redaction).
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{HIDDEN}'"

    def __format__(self, _: str) -> str:
        return HIDDEN


@dataclass(frozen=True, slots=True)
class Limits:
    """What one namespace may ask of one server; 0 requests a second or open runs means: without a limit."""

    requests_per_second: float = 3_000.0
    workers: int = 1_000
    registrations: int = 5_000
    open_runs: int = 1_000_000
    namespace_bytes: int = 48 * 1024 * 1024
    server_bytes: int = 128 * 1024 * 1024

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Limits:
        """The limits that the environment sets."""
        return cls(
            requests_per_second=max(0.0, _number(environment, "AIKI_QUOTA_REQUESTS_PER_SECOND", 3_000.0)),
            workers=max(1, int(_number(environment, "AIKI_QUOTA_WORKERS", 1_000))),
            registrations=max(1, int(_number(environment, "AIKI_QUOTA_REGISTRATIONS", 5_000))),
            open_runs=max(0, int(_number(environment, "AIKI_QUOTA_OPEN_RUNS", 1_000_000))),
            namespace_bytes=int(1024 * 1024 * max(1.0, _number(environment, "AIKI_QUOTA_BODIES_MIB", 48.0))),
            server_bytes=int(1024 * 1024 * max(1.0, _number(environment, "AIKI_MAX_BODIES_MIB", 128.0))),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set. `tokens` maps each token to its namespace; empty means that anyone may do anything (insecure)."""

    database_url: str
    redis_url: str | None = field(default=None, repr=False)
    worker_redis_url: str | None = field(default=None, repr=False)
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    client_tokens: frozenset[str] = field(default=frozenset(), repr=False)
    """Those of the tokens that start and read runs, and can neither be a worker nor change pools."""
    hosts: frozenset[str] = frozenset()
    """The names that a request may call the server by; empty: any."""
    metrics_token: str | None = field(default=None, repr=False)
    """Reads the figures of all namespaces, and nothing else."""
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    lease_seconds: float = LEASE_SECONDS
    heartbeat_seconds: float = HEARTBEAT_SECONDS
    retention_days: float | None = 30.0
    registration_days: float | None = 30.0
    """After so many, what workers registered and nobody uses is forgotten."""
    shutdown_delay_seconds: float = 0.0
    """How long a server that is asked to end goes on answering, each answer the last of its connection."""
    lanes: int = 2
    connections: int = 12
    most_connections: int = 10_000
    """Of clients, at a time."""
    limits: Limits = field(default_factory=Limits)
    unsafe_database: bool = False
    migrate: bool = True
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        for name in ("database_url", "redis_url", "worker_redis_url"):
            if (url := getattr(self, name)) is not None:
                object.__setattr__(self, name, Secret(url))

    @property
    def weak(self) -> list[str]:
        """The namespaces with a token that somebody with time could guess."""
        return sorted({namespace for token, namespace in self.tokens.items() if len(token) < GOOD_TOKEN_LENGTH})

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, insecure: bool = False) -> Settings:
        """The settings that the environment asks for; `insecure` lets the server run without tokens, on loopback only."""
        host = environment.get("AIKI_HOST", "127.0.0.1")
        tokens, clients = _tokens(environment, "AIKI_TOKENS"), _tokens(environment, "AIKI_CLIENT_TOKENS")
        if clients.keys() & tokens.keys():
            raise SettingsError("A token is in AIKI_CLIENT_TOKENS and in AIKI_TOKENS. Make another for one of them.")
        if not tokens and not insecure:
            raise SettingsError("No tokens: set AIKI_TOKENS=namespace:token,... or AIKI_TOKENS_FILE, or start with --insecure on loopback.")
        if not tokens and host not in LOOPBACK:
            raise SettingsError(f"--insecure is for loopback only, and AIKI_HOST is {host}. Set AIKI_TOKENS.")
        lease = _number(environment, "AIKI_LEASE_SECONDS", LEASE_SECONDS)
        redis_url, worker_redis_url = _redis_url(environment, "AIKI_REDIS_URL"), _redis_url(environment, "AIKI_WORKER_REDIS_URL")
        return cls(
            database_url=database_url(environment),
            redis_url=redis_url,
            worker_redis_url=worker_redis_url or redis_url,
            tokens={**tokens, **clients},
            client_tokens=frozenset(clients),
            hosts=_hosts(environment) | (LOOPBACK if host in LOOPBACK else frozenset()),
            metrics_token=_metrics_token(environment, {**tokens, **clients}),
            host=host,
            port=int(_number(environment, "AIKI_PORT", DEFAULT_PORT)),
            lease_seconds=lease,
            heartbeat_seconds=lease / 3,
            retention_days=_number(environment, "AIKI_RETENTION_DAYS", 30.0) or None,
            registration_days=_number(environment, "AIKI_REGISTRATION_RETENTION_DAYS", 30.0) or None,
            shutdown_delay_seconds=max(0.0, _number(environment, "AIKI_SHUTDOWN_DELAY_SECONDS", 0.0)),
            lanes=max(1, int(_number(environment, "AIKI_COMMIT_LANES", 2))),
            connections=max(6, int(_number(environment, "AIKI_DATABASE_CONNECTIONS", 12))),
            most_connections=max(16, int(_number(environment, "AIKI_MAX_CONNECTIONS", 10_000))),
            limits=Limits.from_environment(environment),
            unsafe_database=environment.get("AIKI_ALLOW_UNSAFE_DATABASE", "") == "1",
            migrate=environment.get("AIKI_MIGRATE", "1") == "1",
            faults=_faults(environment),
        )


def _tokens(environment: Mapping[str, str], of: str) -> dict[str, str]:
    """Each token with its namespace. What is not certainly meant is refused: a token that is taken for another opens a door.

    A refusal says which entry it means by its place, and nothing of it: on either side of the colon there may be a secret, if somebody swapped them.
    """
    entries = [entry for variable, texts in _token_entries(environment, of) for entry in _parted(variable, texts)]
    namespaces = {entry.namespace for entry in entries} | {"default"}
    tokens: dict[str, str] = {}
    for entry in entries:
        _check_token(entry, namespaces)
        if entry.token in tokens:
            whose = "of its own namespace" if tokens[entry.token] == entry.namespace else "of two namespaces"
            raise SettingsError(f"{entry.place} has a token that stands in another entry as well, {whose}. Make another for one of them.")
        tokens[entry.token] = entry.namespace
    return tokens


class _Entry(NamedTuple):
    """A token as somebody wrote it down."""

    place: str
    namespace: str
    token: str


def _parted(variable: str, texts: Sequence[str]) -> Iterator[_Entry]:
    for number, text in enumerate(texts, start=1):
        place = f"Entry {number} of {variable}" if len(texts) > 1 else variable
        namespace, colon, token = text.partition(":")
        if not colon and len(texts) > 1:
            raise SettingsError(f"{place} names no namespace. Write namespace:token for each; a token has no comma.")
        yield _Entry(place, _namespace(namespace, place), token) if colon else _Entry(place, "default", namespace)


def _check_token(entry: _Entry, namespaces: Collection[str]) -> None:
    _, namespace, token = entry
    if not token:
        raise SettingsError(f"{entry.place} has an empty token. Was the variable set that it is made of?")
    if not re.fullmatch(BEARER_PATTERN, token):
        raise SettingsError(f"{entry.place} has a token that no client can send: letters, digits and any of - . _ ~ + / = are allowed.")
    if token in namespaces:
        raise SettingsError(f"{entry.place} has the name of a namespace where its token should be. Write namespace:token, in this order.")
    if len(token) < (least := least_token_length(namespace)):
        raise SettingsError(
            f"{entry.place} has a token of fewer than {least} characters, which can be guessed, or token and namespace are swapped."
            " Write namespace:token, in this order, and make the token with: openssl rand -hex 32"
        )


def log_level(environment: Mapping[str, str]) -> str:
    """From which level on events are logged."""
    level = environment.get("AIKI_LOG_LEVEL", "").upper() or "INFO"
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise SettingsError("AIKI_LOG_LEVEL is no level: DEBUG, INFO, WARNING, ERROR or CRITICAL.")
    return level


def _faults(environment: Mapping[str, str]) -> Faults:
    try:
        return Faults.parse(environment.get("AIKI_FAULT", ""))
    except ValueError as error:
        raise SettingsError(str(error)) from None


def _hosts(environment: Mapping[str, str]) -> frozenset[str]:
    return frozenset(name.strip().strip("[]").lower() for name in environment.get("AIKI_ALLOWED_HOSTS", "").split(",") if name.strip())


def _token_entries(environment: Mapping[str, str], of: str) -> list[tuple[str, list[str]]]:
    found, file = [(of, environment.get(of, ""))], f"{of}_FILE"
    if path := environment.get(file):
        try:
            found.append((file, Path(path).read_text()))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{file} is {path}, which cannot be read: {type(error).__name__}.") from None
    split = [(variable, [text.strip() for text in re.split(r"[,\n]", texts)]) for variable, texts in found]
    return [(variable, [text for text in texts if text]) for variable, texts in split]


def _metrics_token(environment: Mapping[str, str], tokens: Mapping[str, str]) -> str | None:
    token = environment.get("AIKI_METRICS_TOKEN", "").strip()
    if not token:
        return None
    _check_token(_Entry("AIKI_METRICS_TOKEN", "", token), {"default", *tokens.values()})
    if token in tokens:
        raise SettingsError("AIKI_METRICS_TOKEN is the token of a namespace as well. Make another for the figures.")
    return token


def _redis_url(environment: Mapping[str, str], name: str) -> Secret | None:
    return _url(environment, name) if environment.get(name) else None


def database_url(environment: Mapping[str, str]) -> Secret:
    """Where the database is."""
    if not environment.get("AIKI_DATABASE_URL"):
        raise SettingsError("Set AIKI_DATABASE_URL=postgresql://user:password@host/database.")
    return _url(environment, "AIKI_DATABASE_URL")


def _url(environment: Mapping[str, str], name: str) -> Secret:
    """A URL whose user and password end where the host begins.

    Libraries would take the rest of another one for a host or a port, and write it into their errors.
    """
    url = environment[name]
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES[name]:
        raise SettingsError(f"{name} is no URL that begins with {' or '.join(f'{one}://' for one in SCHEMES[name])}.")
    before_query = rest.partition("?")[0]
    user, at, authority = before_query.partition("@")
    hosts = re.split(r"[/#]", authority if at else before_query, maxsplit=1)[0].split(",")
    clear = not re.search(r"[/#\[\]]", user) and user.count(":") <= 1 and "@" not in authority and "@" not in rest[len(before_query) :]
    if (at and not clear) or (scheme != "unix" and not all(HOST.fullmatch(host) for host in hosts)):
        raise SettingsError(
            f"{name} is not clear: characters of the password that mean something in a URL have to be encoded"
            " (%40 for @, %3A for :, %2F for /, %23 for #, %3F for ?, %5B for [), and a port is a number."
        )
    return Secret(url)


def _namespace(name: str, place: str) -> str:
    if not re.fullmatch(NAME_PATTERN.replace(":", ""), name):
        # Not what it is: where a token stands in its place, this would write it into a log.
        raise SettingsError(f"{place} has no name for a namespace before its colon: letters, digits, '.', '_' and '-'.")
    return name


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    try:
        return float(text) if text else default
    except ValueError:
        raise SettingsError(f"{name} is no number.") from None

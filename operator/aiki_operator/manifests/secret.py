"""Secrets: those generated once (passwords, the token), and the client Secret derived from them.

A generated one is created and never written again, for what it opens remembers it. Randomness comes as an argument.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from aiki.protocol import figures_token
from aiki_operator.manifests.databases.statefulset import POSTGRES_PORT, REDIS_PORT, postgres_name, redis_name
from aiki_operator.manifests.pods.pod import meta
from aiki_operator.names import client_secret, labels, pool_secret, server_url, worker_secret
from aiki_operator.spec.owner import Owner
from aiki_operator.spec.pool import PoolSpec
from aiki_operator.spec.server import DatabaseKind, DeletionPolicy, ManagedDatabase, ServerSpec


def token_name(owner: Owner) -> str:
    """The Secret of the generated API token."""
    return f"{owner.name}-token"


def tokens_name(owner: Owner) -> str:
    """The Secret with the tokens of all namespaces, as the server reads them."""
    return f"{owner.name}-tokens"


def postgres_secret(spec: ServerSpec, password: str) -> dict[str, Any]:
    """User, password and URI of the managed Postgres; kept as long as the data that they open."""
    name = postgres_name(spec.owner)
    host = f"{name}.{spec.owner.namespace}.svc"
    uri = f"postgresql://aiki:{quote(password, safe='')}@{host}:{POSTGRES_PORT}/aiki"
    values = {"username": "aiki", "password": password, "dbname": "aiki", "host": host, "uri": uri}
    return _secret(spec.owner, name, "postgres", values, owned=not keeps_data(spec))


def redis_secret(spec: ServerSpec, password: str) -> dict[str, Any]:
    """Password, URL and configuration of the managed Valkey."""
    name = redis_name(spec.owner)
    url = f"redis://:{quote(password, safe='')}@{name}.{spec.owner.namespace}.svc:{REDIS_PORT}/0"
    quoted = password.replace("\\", "\\\\").replace('"', '\\"')
    return _secret(spec.owner, name, "redis", {"password": password, "url": url, "redis.conf": f'requirepass "{quoted}"\n'})


def token_secret(spec: ServerSpec, token: str) -> dict[str, Any]:
    """The generated API token; kept with the data, so that clients go on when the server is created again."""
    return _secret(spec.owner, token_name(spec.owner), "server", {"token": token}, owned=not keeps_data(spec))


def tokens_secret(spec: ServerSpec, tokens: str, clients: str) -> dict[str, Any]:
    """The tokens of all namespaces, composed from the Secrets that hold one each, and those of their clients."""
    return _secret(spec.owner, tokens_name(spec.owner), "server", {"tokens": tokens, "clients": clients})


def worker(spec: ServerSpec, token: str) -> dict[str, Any]:
    """What the workers of the namespace `default` need to reach the server."""
    url = server_url(spec.owner.name, spec.owner.namespace, spec.service.port)
    return _secret(spec.owner, worker_secret(spec.owner.name), "worker", _of_worker(url, token))


def pool(spec: PoolSpec, url: str, token: str) -> dict[str, Any]:
    """What the workers of a pool need that is in another namespace than its server, or works in another Aiki namespace."""
    return _of_pool(spec, _of_worker(url, token))


def withdrawn(spec: PoolSpec) -> dict[str, Any]:
    """The same Secret of a pool that is to reach its server no longer."""
    return _of_pool(spec, {})


def client(spec: ServerSpec, token: str) -> dict[str, Any]:
    """What applications need to reach the server."""
    url = server_url(spec.owner.name, spec.owner.namespace, spec.service.port)
    return _secret(spec.owner, client_secret(spec.owner.name), "client", {"AIKI_URL": url, "AIKI_TOKEN": token})


def keeps_data(spec: ServerSpec) -> bool:
    """Whether the database's volume stays when the AikiServer is deleted."""
    managed = spec.database_kind is DatabaseKind.MANAGED and isinstance(spec.database, ManagedDatabase)
    return managed and spec.database.deletion is DeletionPolicy.RETAIN  # type: ignore[union-attr]


def decode(secret: Mapping[str, Any], key: str) -> str | None:
    """A value of a Secret that was read, or None where it has no such key."""
    value = (secret.get("data") or {}).get(key)
    return None if value is None else base64.b64decode(value).decode()


def _of_pool(spec: PoolSpec, values: Mapping[str, str]) -> dict[str, Any]:
    marks = labels("worker", instance=spec.owner.name, server=spec.server, pool=spec.owner.name)
    return _with_marks(spec.owner, pool_secret(spec.owner.name), marks, values)


def _of_worker(url: str, token: str) -> dict[str, str]:
    """With what reads the figures of workers and is good for nothing else: Prometheus is given that."""
    return {"AIKI_URL": url, "AIKI_TOKEN": token, "AIKI_METRICS_TOKEN": figures_token(token)}


def _secret(owner: Owner, name: str, component: str, values: Mapping[str, str], *, owned: bool = True) -> dict[str, Any]:
    return _with_marks(owner, name, labels(component, instance=owner.name, server=owner.name), values, owned=owned)


def _with_marks(owner: Owner, name: str, marks: Mapping[str, str], values: Mapping[str, str], *, owned: bool = True) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": meta(owner, name, marks, owned=owned),
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }

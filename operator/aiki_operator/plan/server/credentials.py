"""Where an AikiServer's configuration lies: its Secrets, what is wrong with them, and what the operator adds to them.

A generated password is made once, beside data that does not exist yet. From then on the Secret is the user's: a changed
password is carried into Postgres (`manifests.prepare`), and a Secret that is gone while its volume is still there is not
replaced by a guess, because whoever has a copy can bring it back. The API token is no key to any data; if its Secret is
gone, the copy in the workers' Secret becomes the token again, so that clients and workers go on.

Each Aiki namespace has one token in a Secret, which opens everything of that namespace, to workers and to the operator.
The token of its clients follows from it by a digest, so nobody keeps it, and it cannot be turned back.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from aiki.protocol import least_token_length
from aiki_operator.manifests import secret
from aiki_operator.manifests.databases import statefulset
from aiki_operator.manifests.server import Sources
from aiki_operator.names import DEFAULT_NAMESPACE, client_secret, worker_secret
from aiki_operator.plan.server import backup
from aiki_operator.reporting.conditions import Condition
from aiki_operator.spec.server import ManagedDatabase, SecretKey, ServerSpec

Json = Mapping[str, Any]

TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,512}")
"""What a token may be made of: what an Authorization header carries, and neither `:` nor `,`, which separate tokens in the server's setting."""
LASTING = ("SecretNotFound", "SecretIncomplete", "SecretLost", "TokenInvalid")
"""Reasons that wait for a person."""


def database_key(spec: ServerSpec) -> SecretKey:
    """Where the database's URI is."""
    return SecretKey(statefulset.postgres_name(spec.owner), "uri") if isinstance(spec.database, ManagedDatabase) else spec.database


def redis_key(spec: ServerSpec) -> SecretKey:
    """Where Redis's URL is."""
    return SecretKey(statefulset.redis_name(spec.owner), "url") if isinstance(spec.redis, ManagedDatabase) else spec.redis


def token_key(spec: ServerSpec) -> SecretKey:
    """Where the token of the namespace `default` is."""
    return spec.token or SecretKey(secret.token_name(spec.owner), "token")


def token_keys(spec: ServerSpec) -> dict[str, SecretKey]:
    """Where each Aiki namespace's token is."""
    return {DEFAULT_NAMESPACE: token_key(spec), **spec.namespaces}


def secret_names(spec: ServerSpec) -> tuple[str, ...]:
    """The Secrets to read before planning."""
    references = (database_key(spec), redis_key(spec), *token_keys(spec).values())
    own = (client_secret(spec.owner.name), worker_secret(spec.owner.name), secret.tokens_name(spec.owner))
    return tuple(dict.fromkeys((*(reference.name for reference in references), *own, *backup.secret_names(spec))))


def claim_names(spec: ServerSpec) -> tuple[str, ...]:
    """The PersistentVolumeClaims to read before planning."""
    managed = ((statefulset.postgres_name(spec.owner), spec.database), (statefulset.redis_name(spec.owner), spec.redis))
    return (*(statefulset.claim_name(name) for name, wanted in managed if isinstance(wanted, ManagedDatabase)), *backup.claim_names(spec))


def value(secrets: Mapping[str, Json], key: SecretKey) -> str | None:
    """What a Secret holds at a key, without the line break that an editor may have left; None if there is none."""
    found = secret.decode(secrets.get(key.name, {}), key.key)
    return None if found is None else found.strip()


def missing(spec: ServerSpec, secrets: Mapping[str, Json], claims: Mapping[str, Json], password: str) -> Iterator[Json]:
    """The Secrets to generate. Each gets a password of its own, derived from the one that was drawn."""
    if isinstance(spec.database, ManagedDatabase) and database_key(spec).name not in secrets and not lost(spec, secrets, claims):
        yield secret.postgres_secret(spec, _derive(password, "postgres"))
    if isinstance(spec.redis, ManagedDatabase) and redis_key(spec).name not in secrets:
        yield secret.redis_secret(spec, _derive(password, "redis"))
    if spec.token is None and token_key(spec).name not in secrets:
        known = value(secrets, SecretKey(worker_secret(spec.owner.name), "AIKI_TOKEN"))
        yield secret.token_secret(spec, known or _derive(password, "token"))


def lost(spec: ServerSpec, secrets: Mapping[str, Json], claims: Mapping[str, Json]) -> bool:
    """Whether the managed Postgres has data and the Secret with its password is gone."""
    name = statefulset.postgres_name(spec.owner)
    return isinstance(spec.database, ManagedDatabase) and name not in secrets and statefulset.claim_name(name) in claims


def completed(spec: ServerSpec, secrets: Mapping[str, Json]) -> Iterator[Json]:
    """Secrets whose password a person has set or changed, with everything that follows from the password."""
    for key, wanted, make in (
        (database_key(spec), spec.database, secret.postgres_secret),
        (redis_key(spec), spec.redis, secret.redis_secret),
    ):
        password = value(secrets, SecretKey(key.name, "password"))
        if isinstance(wanted, ManagedDatabase) and password:
            manifest = make(spec, password)
            if any(secret.decode(secrets[key.name], name) != secret.decode(manifest, name) for name in manifest["data"]):
                yield manifest


def sources(spec: ServerSpec, secrets: Mapping[str, Json]) -> Sources | None:
    """Where the configuration lies, once all of it is there.

    The digests are over the values together with the token, which nobody can guess: so they tell nothing of a weak password.
    """
    keys = (database_key(spec), redis_key(spec))
    values = [value(secrets, key) for key in keys]
    tokens = composed(spec, secrets)
    token = value(secrets, token_key(spec))
    if None in values or tokens is None:
        return None
    where = SecretKey(secret.tokens_name(spec.owner), "tokens")
    return Sources(*keys, where, config=_fingerprint([*values, tokens]), database_config=_fingerprint([values[0], token]))


def composed(spec: ServerSpec, secrets: Mapping[str, Json]) -> str | None:
    """All tokens with their namespaces, as the server's setting wants them; None while one is missing or wrong."""
    if tokens(spec, secrets) is not None:
        return None
    return ",".join(f"{namespace}:{token}" for namespace, token in sorted(token_of(spec, secrets).items()))


def derived(spec: ServerSpec, secrets: Mapping[str, Json]) -> list[dict[str, Any]]:
    """The Secrets that are made of others: what workers and applications need, and what the server reads."""
    token = value(secrets, token_key(spec)) or ""
    clients = ",".join(f"{namespace}:{client_token(one)}" for namespace, one in sorted(token_of(spec, secrets).items()))
    tokens_of_all = secret.tokens_secret(spec, composed(spec, secrets) or "", clients)
    return [secret.client(spec, client_token(token)), secret.worker(spec, token), tokens_of_all]


def client_token(token: str) -> str:
    """The token of a namespace's clients."""
    return hashlib.sha256(f"client:{token}".encode()).hexdigest()


def token_of(spec: ServerSpec, secrets: Mapping[str, Json]) -> dict[str, str]:
    """The token of each Aiki namespace, as far as it is there."""
    found = {namespace: value(secrets, key) for namespace, key in token_keys(spec).items()}
    return {namespace: token for namespace, token in found.items() if token}


def waiting(kind: str, spec: ServerSpec, secrets: Mapping[str, Json]) -> Condition:
    """The condition of a part that cannot begin before all Secrets are there."""
    if (wrong := tokens(spec, secrets)) is not None:
        return Condition(kind, False, wrong.reason, wrong.message)
    absent = next((key for key in (database_key(spec), redis_key(spec)) if not value(secrets, key)), None)
    wanted = f"Secret {absent.name}, key {absent.key}" if absent is not None else "its Secrets"
    return Condition(kind, False, "WaitingForSecrets", f"the operator waits for {wanted}")


def tokens(spec: ServerSpec, secrets: Mapping[str, Json]) -> Condition | None:
    """What is wrong with the Secrets of the tokens, or None."""
    seen: dict[str, str] = {}
    for namespace, key in token_keys(spec).items():
        if namespace == DEFAULT_NAMESPACE and spec.token is None and key.name not in secrets:
            return Condition("TokensReady", False, "WaitingForSecrets", f"Secret {key.name} is about to be made")
        there = configured("TokensReady", key, secrets)
        if not there.status:
            return there
        token = value(secrets, key) or ""
        if TOKEN.fullmatch(token) is None:
            message = (
                f"Secret {key.name}, key {key.key}, must hold one token and nothing else: up to 512 letters, digits and ._~+/=-, "
                "without a namespace before it"
            )
            return Condition("TokensReady", False, "TokenInvalid", message)
        least = least_token_length(namespace)
        if len(token) < least or token in token_keys(spec):
            what = "the name of a namespace" if len(token) >= least else f"a token of fewer than {least} characters, which can be guessed"
            message = f"Secret {key.name}, key {key.key}, holds {what}: make a token with openssl rand -hex 32"
            return Condition("TokensReady", False, "TokenInvalid", message)
        if token in seen:
            message = f"Secret {key.name} has the token of namespace {seen[token]} for namespace {namespace} too: give each its own"
            return Condition("TokensReady", False, "TokenInvalid", message)
        seen[token] = namespace
    return None


def configured(kind: str, key: SecretKey, secrets: Mapping[str, Json]) -> Condition:
    """Whether a Secret that somebody else keeps has what is needed."""
    if key.name not in secrets:
        message = f"Secret {key.name} does not exist in this namespace: create it with the key {key.key}"
        return Condition(kind, False, "SecretNotFound", message)
    if not value(secrets, key):
        return Condition(kind, False, "SecretIncomplete", f"Secret {key.name} has no key {key.key}")
    return Condition(kind, True, "Configured", f"Secret {key.name} has {key.key}")


def opens(spec: ServerSpec, secrets: Mapping[str, Json], claims: Mapping[str, Json]) -> Condition | None:
    """What is wrong with the Secret of the managed Postgres, or None."""
    name = statefulset.postgres_name(spec.owner)
    if lost(spec, secrets, claims):
        message = (
            f"Secret {name} is gone and the volume of {statefulset.claim_name(name)} has data: bring the Secret back, or create it "
            "with a new password in the key `password`, which Postgres then takes over"
        )
        return Condition("DatabaseReady", False, "SecretLost", message)
    if name in secrets and not value(secrets, SecretKey(name, "password")):
        return Condition("DatabaseReady", False, "SecretIncomplete", f"Secret {name} has no key password: set one, Postgres takes it over")
    return None


def password_digest(spec: ServerSpec, secrets: Mapping[str, Json], name: str) -> str | None:
    """A digest of a managed database's password, for the annotation that restarts its pod; None while there is no Secret."""
    password = value(secrets, SecretKey(name, "password"))
    return None if password is None else _slow(password, spec.owner.uid)


@lru_cache(maxsize=1024)
def _slow(password: str, salt: str) -> str:
    """A person may have chosen the password, and whoever reads the StatefulSet could try out words: each try costs."""
    return hashlib.scrypt(password.encode(), salt=salt.encode(), n=2**14, r=8, p=1, dklen=8).hex()


def _derive(password: str, purpose: str) -> str:
    return hashlib.sha256(f"{purpose}:{password}".encode()).hexdigest()


def _fingerprint(values: Sequence[str | None]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]

"""The way to the Kubernetes API: one configuration, by the official client, for what is called and for kopf's watches.

In a pod it is the service account's, whose token the client reads anew once a minute; anywhere else it is that of KUBECONFIG.
The official client is imported where it is first needed: whoever imports the plans, or the manifests, does not pay for it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import kopf

from aiki_operator.kubernetes.client import Cluster

if TYPE_CHECKING:
    from kubernetes.aio.client import Configuration

KUBECONFIG = "~/.kube/config"


class NoConnection(Exception):
    """Nothing says where the API server is, or what it says cannot be read."""


async def configuration() -> Configuration:
    """Where the API server is and how to sign in, as the pod or KUBECONFIG says now."""
    from kubernetes.aio import config  # noqa: PLC0415 - see above
    from kubernetes.aio.client import Configuration  # noqa: PLC0415

    found = Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and Path(config.incluster_config.SERVICE_TOKEN_FILENAME).exists():  # noqa: ASYNC240 - read once
            config.load_incluster_config(client_configuration=found)
            found.refresh_api_key_hook = _trimmed(found.refresh_api_key_hook)
        else:
            await config.load_kube_config(os.path.expanduser(os.environ.get("KUBECONFIG", KUBECONFIG)), client_configuration=found)  # noqa: PTH111, ASYNC240 - the variable may name several files; read once
    except config.ConfigException as error:
        raise NoConnection(f"{error}: run in a pod with a service account, or set KUBECONFIG to a file that names a cluster") from error
    return found


def _trimmed(refresh: Callable[[Configuration], None] | None) -> Callable[[Configuration], None]:
    """The client reads the token with the line end that a file may have, and no header may."""

    def refreshed(found: Configuration) -> None:
        if refresh is not None:
            refresh(found)
        found.api_key["BearerToken"] = found.api_key["BearerToken"].strip()

    return refreshed


async def sign_in() -> kopf.ConnectionInfo:
    """The same for kopf, which asks for it again when the API server no longer takes the token."""
    found = await configuration()
    scheme, _, token = (await found.get_api_key_with_prefix("BearerToken") or "").partition(" ")
    return kopf.ConnectionInfo(
        server=found.host,
        ca_path=found.ssl_ca_cert,
        insecure=not found.verify_ssl,
        scheme=scheme.capitalize() or None,
        token=token or None,
        certificate_path=found.cert_file,
        private_key_path=found.key_file,
        proxy_url=found.proxy,
        trust_env=True,
    )


@asynccontextmanager
async def connect(found: Configuration | None = None) -> AsyncIterator[Cluster]:
    """The API at the end of a configuration, by default that of `configuration()`; closed in the end."""
    from kubernetes.aio.client import ApiClient  # noqa: PLC0415 - see above

    async with ApiClient(found if found is not None else await configuration()) as client:
        client.user_agent = "aiki-operator"
        yield Cluster(client)

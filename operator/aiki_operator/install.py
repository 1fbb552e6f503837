"""`python -m aiki_operator.install`: applies the chart's AikiServer and waits until it is ready, saying what it waits for.

Run by the chart's hook, so that `helm install` ends with a working server, or with the reason why there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import aiohttp
import kopf

from aiki_operator.cluster import Cluster, ClusterError, Refused, login

OWNER = "helm"
"""The field manager: the operator's own never writes a spec."""


async def install(cluster: Cluster, manifest: Mapping[str, Any], *, seconds: float) -> str | None:
    """Applies the manifest and waits; why it did not get ready, or None when it is."""
    deadline = time.monotonic() + max(seconds, 30)
    generation = await _apply(cluster, manifest, deadline)
    said, end = "", time.monotonic() + seconds
    while seconds:
        ready = await _ready(cluster, manifest["metadata"], generation)
        if ready.get("status") == "True":
            return None
        now = f"{ready.get('reason', 'Unknown')}: {ready.get('message', 'the operator has not looked at it yet')}"
        if now != said:
            print(now, flush=True)  # noqa: T201 - for the log that Helm shows
        said = now
        if time.monotonic() > end:
            return f"not ready after {seconds:.0f} s. {now}"
        await asyncio.sleep(1)
    return None


async def _apply(cluster: Cluster, manifest: Mapping[str, Any], deadline: float) -> int:
    """The generation that was applied. A CRD that was installed a moment ago is served a moment later."""
    while True:
        try:
            return int((await cluster.apply(manifest, manager=OWNER))["metadata"]["generation"])
        except Refused:
            raise
        except ClusterError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(1)


async def _ready(cluster: Cluster, meta: Mapping[str, str], generation: int) -> Mapping[str, str]:
    """The condition Ready, if it speaks of the generation."""
    found = await cluster.get("AikiServer", meta["namespace"], meta["name"]) or {}
    conditions = found.get("status", {}).get("conditions", [])
    return next((one for one in conditions if one["type"] == "Ready" and one.get("observedGeneration", 0) >= generation), {})


async def main(argv: Sequence[str] | None = None) -> str | None:
    """Reads AIKI_SERVER_MANIFEST and installs it."""
    parser = argparse.ArgumentParser(prog="python -m aiki_operator.install", description=__doc__)
    parser.add_argument("--wait", type=float, default=270, help="seconds until it must be ready; 0 does not wait")
    chosen = parser.parse_args(argv)
    manifest = json.loads(os.environ["AIKI_SERVER_MANIFEST"])
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=15)) as session:
        try:
            return await install(Cluster(session, login(kopf.OperatorSettings())), manifest, seconds=chosen.wait)
        except ClusterError as error:
            return f"the API server refuses the AikiServer: {error.message}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

"""`python -m aiki_operator.process.install`: applies the chart's AikiServer and waits until it is ready, saying what it waits for.

Run by the chart's hook, so that `helm install` ends with a working server, or with the reason why there is none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiki_operator.kubernetes.client import Cluster, ClusterError, ClusterRefused
from aiki_operator.kubernetes.connection import connect
from aiki_operator.reporting.hiding import hiding

OWNER = "helm"
"""The field manager: the operator's own never writes a spec."""
STALLED_SECONDS = 15.0
"""How long Stalled must be true without a break before waiting any longer is pointless; a Secret may come a moment later."""


async def install(cluster: Cluster, manifest: Mapping[str, Any], *, seconds: float) -> str | None:
    """Applies the manifest and waits; why it did not get ready, or None when it is."""
    deadline = time.monotonic() + max(seconds, 30)
    generation = await _apply(cluster, manifest, deadline)
    said, end, stalled_since = "", time.monotonic() + seconds, math.inf
    while seconds:
        conditions = await _conditions(cluster, manifest["metadata"], generation)
        ready = conditions.get("Ready", {})
        if ready.get("status") == "True":
            return None
        stalled = conditions.get("Stalled", {}).get("status") == "True"
        stalled_since = min(stalled_since, time.monotonic()) if stalled else math.inf
        now = f"{ready.get('reason', 'Unknown')}: {ready.get('message', 'the operator has not looked at it yet')}"
        if now != said:
            print(now, flush=True)  # noqa: T201 - for the log that Helm shows
        said = now
        if time.monotonic() - stalled_since > STALLED_SECONDS:
            return f"this waits for a person. {now}"
        if time.monotonic() > end:
            return f"not ready after {seconds:.0f} s. {now}"
        await asyncio.sleep(1)
    return None


async def _apply(cluster: Cluster, manifest: Mapping[str, Any], deadline: float) -> int:
    """The generation that was applied. A CRD that was installed a moment ago is served a moment later."""
    while True:
        try:
            return int((await cluster.apply(manifest, manager=OWNER))["metadata"]["generation"])
        except ClusterRefused:
            raise
        except ClusterError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(1)


async def _conditions(cluster: Cluster, meta: Mapping[str, str], generation: int) -> Mapping[str, Mapping[str, str]]:
    """The conditions that speak of the generation, by type."""
    found = await cluster.get("AikiServer", meta["namespace"], meta["name"]) or {}
    conditions = found.get("status", {}).get("conditions", [])
    return {one["type"]: one for one in conditions if one.get("observedGeneration", 0) >= generation}


async def main(argv: Sequence[str] | None = None) -> str | None:
    """Reads AIKI_SERVER_MANIFEST and installs it."""
    parser = argparse.ArgumentParser(prog="python -m aiki_operator.process.install", description=__doc__)
    parser.add_argument("--wait", type=float, default=270, help="seconds until it must be ready; 0 does not wait")
    chosen = parser.parse_args(argv)
    manifest = json.loads(os.environ["AIKI_SERVER_MANIFEST"])
    async with connect() as cluster:
        try:
            return await install(cluster, manifest, seconds=chosen.wait)
        except ClusterError as error:
            return f"the API server refuses the AikiServer: {hiding(manifest)(error.message)}"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

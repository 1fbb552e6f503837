"""The page that deploys to Kubernetes, typed word by word in a cluster that has nothing of ours but the images."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from e2e.conftest import Figure, cleared
from e2e.kube import Kube, time_until
from e2e.service import answers
from e2e.site import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORWARD = "kubectl port-forward service/aiki 8080"
SHAPES = {
    "kubectl get aikiservers": r"NAME +READY +REASON +PODS +QUEUED +OLDEST +URL +AGE\naiki +True +Ready +1/1 +(?:0 +)?http://aiki\.default\.svc:8080 +\w+\n",
    "kubectl get aikiworkerpools": r"NAME +READY +REASON +PODS +QUEUED +OLDEST +MAX +BUILD +ROLLOUT +AGE\nonboarding +True +Ready +[01]/[01] +0 +20 +[0-9a-f]{10} +\w+\n",
    "aiki start": r"[0-9a-f]{32}\n",
    "aiki show": r"(?s).*user-onboarding 1\.0.*",
}


async def test_what_the_page_says_can_be_typed(cluster: Kube, images: None, figure: Figure) -> None:
    await cleared(cluster.inside("aiki"))
    page = ROOT.joinpath("docs/start/kubernetes.md").read_text()
    lines = [line for block in re.findall(r"^```sh\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE) for line in block.splitlines()]
    assert lines[:2] == ["make cluster", 'eval "$(tests/e2e/cluster/cluster.py env)"'], "what the fixtures have done"
    before, after = lines[2 : lines.index(FORWARD)], lines[lines.index(FORWARD) + 1 :]
    try:
        said = await _typed(before, cluster)
        async with _forwarded(cluster):
            said |= await _typed(after, cluster)
        for command, shape in SHAPES.items():
            assert [text for line, text in said.items() if line.startswith(command) and re.fullmatch(shape, text)], (command, said)
        figure("13 commands of the page that deploys to Kubernetes, typed", str(len(lines)))
    finally:
        await cluster.kubectl("delete", "aikiworkerpools,aikiservers", "--all")
        await cluster.helm("uninstall", "aiki", ok=False)
        await cluster.kubectl("delete", "persistentvolumeclaims,secrets", "--all")


async def _typed(lines: list[str], kube: Kube) -> dict[str, str]:
    """What each command printed, typed into one shell."""
    mark = "=== next ==="
    script = "set -e\n" + "\n".join(f"{line}\necho '{mark}'" for line in lines)
    path = f"{Path(sys.executable).parent}:{kube.site.env['PATH']}"
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script, cwd=ROOT, env=kube.site.env | {"PATH": path}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, f"{out.decode()}{err.decode()}"
    return dict(zip(lines, re.split(f"{mark}\n", out.decode()), strict=False))


@asynccontextmanager
async def _forwarded(kube: Kube) -> AsyncIterator[None]:
    """README's second terminal."""
    process = await asyncio.create_subprocess_exec(*FORWARD.split(), env=kube.site.env, stdout=asyncio.subprocess.DEVNULL)
    try:
        async with aiohttp.ClientSession() as session:
            await time_until("the forwarded port answers", lambda: answers(session, "http://localhost:8080"), 20)
        yield
    finally:
        process.terminate()
        await process.wait()

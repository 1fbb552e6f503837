"""Where the tests run: KUBECONFIG if it is set, kind where Docker runs, otherwise the cluster beside this file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CLUSTER = HERE / "cluster" / "cluster.py"
KIND_VERSION_CLUSTER = "aiki-e2e"


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster and how images get into it."""

    name: str
    kubeconfig: str
    path: str

    @property
    def env(self) -> dict[str, str]:
        """The environment for kubectl and helm."""
        return {**os.environ, "KUBECONFIG": self.kubeconfig, "PATH": self.path}

    @property
    def audit(self) -> Path | None:
        """The API server's audit log, where it keeps one that we can read."""
        log = Path(self.kubeconfig).parent / "logs" / "audit.log"
        return log if log.exists() else None

    def build(self, tag: str, *, file: Path, context: Path = ROOT, target: str | None = None, base: str | None = None) -> None:
        """Builds an image and brings it to the nodes."""
        options = [
            *(["--target", target] if target else []),
            *(["--build-arg", f"BASE={base}"] if base else []),
            "--file",
            str(file),
            str(context),
        ]
        if self.name == "kind":
            _run("docker", "build", "--tag", tag, *options)
            _run("kind", "load", "docker-image", "--name", KIND_VERSION_CLUSTER, tag)
        elif self.name == "own":
            _run("nice", sys.executable, str(CLUSTER), "build", tag, *options)
        # With KUBECONFIG the images are expected to be where the nodes find them.


def find() -> Site:
    """The site; starts a cluster where that is needed."""
    if kubeconfig := os.environ.get("KUBECONFIG"):
        own = str(Path(os.environ.get("CLUSTER_HOME", Path.home() / ".cache" / "cluster")))
        return Site("own" if kubeconfig.startswith(own) else "given", kubeconfig, os.environ["PATH"])
    if shutil.which("docker") and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0:
        return _kind()
    _run(sys.executable, str(CLUSTER), "up")
    exports = subprocess.run([sys.executable, str(CLUSTER), "env"], capture_output=True, text=True, check=True).stdout
    words = dict(word.split("=", 1) for word in exports.split()[1:])
    return Site("own", words["KUBECONFIG"], words["PATH"].replace("$PATH", os.environ["PATH"]))


def _kind() -> Site:
    from pytest_kind.cluster import KindCluster

    cluster = KindCluster(KIND_VERSION_CLUSTER)
    cluster.create()
    return Site("kind", str(cluster.kubeconfig_path), f"{cluster.path / '.pytest-kind' / KIND_VERSION_CLUSTER}:{os.environ['PATH']}")


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")

"""The images of this repository, built and brought to the cluster's nodes: `make images`, and before the end-to-end tests."""

from __future__ import annotations

from e2e import site
from e2e.site import ROOT, Site

VERSION = "0.1.0"
WORKER = f"example.com/aiki-worker:{VERSION}"


def build_all(to: Site) -> list[str]:
    """Server, operator, the Postgres with pgBackRest, the workers' base image, and the onboarding example on top of it; their tags."""
    example = ROOT / "examples" / "onboarding"
    for target in ("server", "operator"):
        to.build(f"example.com/aiki-{target}:{VERSION}", file=ROOT / "Dockerfile.server", target=target)
    to.build(f"example.com/aiki-postgres:{VERSION}", file=ROOT / "Dockerfile.postgres", context=ROOT / "docker")
    to.build(WORKER, file=ROOT / "Dockerfile.worker")
    to.build("example.com/onboarding:1", file=example / "Dockerfile", context=example, base=WORKER)
    return [
        f"example.com/aiki-server:{VERSION}",
        f"example.com/aiki-operator:{VERSION}",
        f"example.com/aiki-postgres:{VERSION}",
        WORKER,
        "example.com/onboarding:1",
    ]


if __name__ == "__main__":
    print("\n".join(build_all(site.find())))

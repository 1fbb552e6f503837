"""Which builds that have nothing to do any more are kept, so that a former template or image brings them back at once.

A build that is kept has its Deployment, without pods, and stays registered at the server. Only one that has served is worth it: there is no way
back to one that never did. Those that served last are kept.
"""

from __future__ import annotations

from collections.abc import Collection

from aiki_operator.scaling.load import Load


def kept_builds(retired: Collection[str], load: Load, *, limit: int) -> set[str]:
    """The builds to keep, of those that nobody needs any more."""
    served = [build for build in load.builds if build.name in retired and build.promoted]
    latest = sorted(served, key=lambda build: (build.promoted_at, build.name), reverse=True)
    return {build.name for build in latest[:limit]}

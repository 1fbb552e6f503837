"""Shares of new runs: which run a roll-out draws for a build that has not taken over yet. Pure.

A draw depends on the run's id alone: whoever looks, and however often, sees the same, and who was drawn at ten percent is drawn at fifty.
It is made once, where the run is given its place; from then on the place says it. A build that alone can serve what a start asks for gets all of it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import NamedTuple
from uuid import UUID

from aiki_server.model.keys import BuildKey, PoolKey
from aiki_server.model.workers import Build, PoolRow, Registration

ROWS_A_STEP = 250
Asked = tuple[str, str, str | None, str | None]
"""Namespace, workflow, and the version and pool that a start names: plain texts, at which the collector need not look."""


class Ramp(NamedTuple):
    """What runs get that are drawn: this version on this build."""

    version: str
    pool: str
    build: str
    percent: int
    versioning: str

    def draws(self, run: UUID) -> bool:
        """Whether this run is drawn; registry.sql says the same."""
        return ((run.int & 0xFFFF) * 100 >> 16) < self.percent


class Share(NamedTuple):
    """The share that a build has of its pool's new runs."""

    build: str
    percent: int
    versioning: str


def shares(builds: Mapping[PoolKey, Mapping[str, Build]], pools: Mapping[PoolKey, PoolRow]) -> dict[PoolKey, Share]:
    """The shares that hold: of builds that are there and have not taken over."""
    found: dict[PoolKey, Share] = {}
    for key, pool in pools.items():
        build = builds.get(key, {}).get(pool.ramp_build or "")
        if pool.ramp_build is not None and build is not None and build.promoted_at is None:
            found[key] = Share(pool.ramp_build, pool.ramp_percent or 0, pool.versioning)
    return found


def ramps(
    shares: Mapping[PoolKey, Share],
    newest: Mapping[Asked, Registration],
    after: Mapping[Asked, Registration],
    carried: Mapping[BuildKey, frozenset[tuple[str, str]]],
    servers: Mapping[PoolKey, Mapping[tuple[str, str], str]],
) -> Generator[None, None, dict[Asked, Ramp]]:
    """What is drawn, by what a start asks for. `after` is what starts would get that name no version if these builds had taken over."""
    found: dict[Asked, Ramp] = {}
    for number, (asked, entry) in enumerate([*after.items(), *newest.items()], start=1):
        if number % ROWS_A_STEP == 0:
            yield
        namespace, workflow, version, _ = asked
        key = PoolKey(namespace, entry.pool)
        share = shares.get(key)
        if asked in found or share is None:
            continue
        if version is None:
            drawn, alone = entry.build == share.build, newest[asked].build == entry.build and newest[asked].pool == entry.pool
        else:
            drawn = (workflow, version) in carried.get(BuildKey(*key, share.build), ())
            alone = servers[key].get((workflow, version)) == share.build
        if drawn:
            found[asked] = Ramp(entry.version, entry.pool, share.build, 100 if alone else share.percent, share.versioning)
    return found

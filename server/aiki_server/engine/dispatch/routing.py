"""Who serves which workflow version: versions compared, runs assigned, streams listed. Pure.

A pool without builds: every worker serves what it carries. With builds, the newest promoted build that carries a version serves
it; a version that no promoted build carries is served by the newest build that does. A start that names no version gets the highest
that the newest of the pool's builds with that workflow carries, in the same order: a build that was gone back from keeps none of the new runs, and one that has not
been promoted takes none. In a pinned pool a run stays on the build that it started on, and that build reads streams of its own. It goes on reading them when the pool is pinned no more: what a run was
promised when it started is kept.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from aiki_server.engine.commit.after_commit import Place as RunPlace
from aiki_server.engine.dispatch.ramps import Ramp, Share, ramps, shares
from aiki_server.engine.redis.stream_names import stream
from aiki_server.model.keys import BuildKey, PoolKey, WorkflowKey
from aiki_server.model.workers import Build, PoolRow, Registration

ROWS_A_STEP = 250
"""A millisecond or two."""
_NEVER = datetime.min.replace(tzinfo=UTC)
Version = tuple[str, str]
"""Workflow and version."""
_Asked = tuple[str, str, str | None, str | None]
"""Namespace, workflow, and the version and pool that a start names: plain texts, at which the collector need not look."""
_Carrier = tuple[str, str, str, str]
"""Namespace, workflow, pool and build."""


class Place(NamedTuple):
    """Where a run runs. A version or pool that nobody knows yet is None."""

    version: str | None
    pool: str | None
    build: str | None
    served: bool
    """Whether somebody has registered it."""
    trial: str | None = None
    """Where a roll-out drew the run for the build: how the pool treats builds."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A snapshot of everything registered."""

    by_workflow: dict[WorkflowKey, list[Registration]] = field(default_factory=dict)
    by_build: dict[BuildKey, frozenset[Version]] = field(default_factory=dict)
    builds: dict[PoolKey, dict[str, Build]] = field(default_factory=dict)
    """Of each pool, by their names; what was registered without a build is the build ''."""
    pinned: frozenset[PoolKey] = frozenset()
    """Pools whose new runs stay on a build."""
    promising: frozenset[PoolKey] = frozenset()
    """Pools that are or once were pinned: there may be runs that stay on a build."""
    settings: frozenset[PoolKey] = frozenset()
    """Pools that have settings."""
    newest: dict[_Asked, Registration] = field(default_factory=dict)
    """What a start gets that names this version and this pool, or names none."""
    servers: dict[PoolKey, dict[Version, str]] = field(default_factory=dict)
    """The build that serves each version. This and what follows is made once, for a namespace may have registered ten thousand versions."""
    carriers: dict[PoolKey, dict[Version, int]] = field(default_factory=dict)
    """How many builds carry each version."""
    shares: dict[PoolKey, Share] = field(default_factory=dict)
    """Builds that have a share of the new runs before they take over."""
    ramps: dict[_Asked, Ramp] = field(default_factory=dict)
    """What starts get that are drawn for them."""

    def place(
        self, namespace: str, workflow: str, version: str | None, pool: str | None, *, run: UUID | None = None, prefer: str | None = None
    ) -> Place:
        """Where a new run goes; `prefer` is a pool to take if it carries the version. Without its id, a run is not drawn."""
        chosen = self.newest.get((namespace, workflow, version, pool))
        if chosen is None:
            return Place(version, pool, None, served=False)
        if (
            pool is None
            and prefer is not None
            and (preferred := self.newest.get((namespace, workflow, chosen.version, prefer))) is not None
        ):
            chosen, pool = preferred, prefer
        if self.ramps and run is not None:
            ramp = self.ramps.get((namespace, workflow, version, pool))
            if ramp is not None and ramp.draws(run):
                return drawn(ramp)
        return Place(chosen.version, chosen.pool, self._pin(namespace, chosen.pool, (workflow, chosen.version)), served=True)

    def knows(self, namespace: str, pool: str) -> bool:
        """Whether anybody has named this pool to us."""
        key = PoolKey(namespace, pool)
        return key in self.builds or key in self.settings

    def carries(self, namespace: str, pool: str, build: str | None) -> frozenset[Version]:
        """What a build carries."""
        return self.by_build.get(BuildKey(namespace, pool, build or ""), frozenset())

    def serves(self, namespace: str, pool: str, build: str | None) -> frozenset[Version]:
        """What a build serves now, of what it carries."""
        return frozenset(
            version for version in self.carries(namespace, pool, build) if self.server(namespace, pool, version) == (build or "")
        )

    def server(self, namespace: str, pool: str, version: Version) -> str | None:
        """The build that serves a version in a pool."""
        return self.servers.get(PoolKey(namespace, pool), {}).get(version)

    def only(self, namespace: str, pool: str, version: Version) -> bool:
        """Whether no more than one build of a pool carries a version."""
        return self.carriers.get(PoolKey(namespace, pool), {}).get(version) == 1

    def claimable(
        self, namespace: str, pool: str, build: str | None, carried: frozenset[Version]
    ) -> tuple[frozenset[Version], frozenset[Version]]:
        """What a worker may look for without a stream: versions of which it takes any run, and versions of which it takes those promised to its build."""
        own = carried if build is not None and self.promises(namespace, pool, build) else frozenset[Version]()
        return carried & self.serves(namespace, pool, build), own

    def streams(self, namespace: str, pool: str, build: str | None, carried: frozenset[Version]) -> list[str]:
        """The streams that a worker reads, of this build and with these versions of its own."""
        any_run, own = self.claimable(namespace, pool, build, carried)
        return sorted(
            [stream(namespace, pool, *version, None) for version in any_run] + [stream(namespace, pool, *version, build) for version in own]
        )

    def readers(self, place: RunPlace) -> frozenset[str]:
        """The builds that take the runs of a place, whether or not they have workers now. None: nobody ever will, as things are."""
        namespace, pool, workflow, version, build = place
        if pool is None or version is None:
            return frozenset()
        if build is None:
            server = self.server(namespace, pool, (workflow, version))
            return frozenset() if server is None else frozenset({server})
        kept = self.promises(namespace, pool, build) and (workflow, version) in self.carries(namespace, pool, build)
        return frozenset({build}) if kept else frozenset()

    def promises(self, namespace: str, pool: str, build: str) -> bool:
        """Whether there may be runs that stay on a build: those of a pinned pool, or those that a roll-out draws for it."""
        key = PoolKey(namespace, pool)
        return key in self.promising or (key in self.shares and self.shares[key].build == build)

    def _pin(self, namespace: str, pool: str, version: Version) -> str | None:
        return (self.server(namespace, pool, version) or None) if PoolKey(namespace, pool) in self.pinned else None


def drawn(ramp: Ramp) -> Place:
    """Where a run goes that a roll-out has drawn."""
    return Place(ramp.version, ramp.pool, ramp.build, served=True, trial=ramp.versioning)


def serving(registrations: Iterable[Registration], builds: Iterable[Build], pools: Collection[PoolRow]) -> Serving:
    """The snapshot of these rows."""
    steps = stepwise(registrations, builds, pools)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: Serving = end.value
            return found


def stepwise(registrations: Iterable[Registration], builds: Iterable[Build], pools: Collection[PoolRow]) -> Generator[None, None, Serving]:
    """As `serving`, with a pause after every so many rows, so that others have their turn meanwhile."""
    by_workflow: dict[WorkflowKey, list[Registration]] = {}
    by_build: dict[BuildKey, set[Version]] = {}
    by_pool: dict[PoolKey, dict[str, Build]] = {}
    exact: dict[_Asked, Registration] = {}
    highest: dict[_Carrier, Registration] = {}
    for build in builds:
        by_pool.setdefault(PoolKey(build.namespace, build.pool), {})[build.name] = build
    for number, entry in enumerate(registrations, start=1):
        if number % ROWS_A_STEP == 0:
            yield
        by_workflow.setdefault(WorkflowKey(entry.namespace, entry.workflow), []).append(entry)
        for pool in (entry.pool, None):
            key = entry.namespace, entry.workflow, entry.version, pool
            if (known := exact.get(key)) is None or known.registered_at < entry.registered_at:
                exact[key] = entry
        carrier = entry.namespace, entry.workflow, entry.pool, entry.build
        if (known := highest.get(carrier)) is None or version_key(known.version) < version_key(entry.version):
            highest[carrier] = entry
        by_build.setdefault(BuildKey(entry.namespace, entry.pool, entry.build), set()).add((entry.workflow, entry.version))
        unnamed = Build(entry.namespace, entry.pool, entry.build, None, entry.registered_at)
        by_pool.setdefault(PoolKey(entry.namespace, entry.pool), {}).setdefault(entry.build, unnamed)
    settings = {PoolKey(pool.namespace, pool.name): pool.versioning for pool in pools}
    pinned = frozenset(key for key, versioning in settings.items() if versioning == "Pinned")
    promising = pinned | {PoolKey(pool.namespace, pool.name) for pool in pools if pool.ever_pinned}
    carried = {key: frozenset(versions) for key, versions in by_build.items()}
    servers, carriers = yield from _servers(by_pool, carried)
    newest = exact | (yield from _leading(highest, by_pool))
    sharing = shares(by_pool, {PoolKey(pool.namespace, pool.name): pool for pool in pools})
    ramped = dict[_Asked, Ramp]()
    if sharing:
        after = yield from _leading(highest, by_pool, taken_over=sharing)
        ramped = yield from ramps(sharing, newest, after, carried, servers)
    return Serving(by_workflow, carried, by_pool, pinned, promising, frozenset(settings), newest, servers, carriers, sharing, ramped)


def _leading(
    highest: Mapping[_Carrier, Registration],
    builds: Mapping[PoolKey, Mapping[str, Build]],
    *,
    taken_over: Mapping[PoolKey, Share] = MappingProxyType({}),
) -> Generator[None, None, dict[_Asked, Registration]]:
    """What starts get that name no version: of each pool, the highest of the newest build with the workflow; of all pools, the highest of these.

    That is as it would be if the builds of `taken_over` had.
    """
    leaders: dict[_Asked, tuple[Any, Registration]] = {}
    for number, ((namespace, workflow, pool, build), entry) in enumerate(highest.items(), start=1):
        if number % ROWS_A_STEP == 0:
            yield
        key, asked = PoolKey(namespace, pool), (namespace, workflow, None, pool)
        newness = key in taken_over and taken_over[key].build == build, _newness(builds[key][build])
        if (best := leaders.get(asked)) is None or best[0] < newness:
            leaders[asked] = newness, entry
    found = {asked: entry for asked, (_, entry) in leaders.items()}
    for (namespace, workflow, _, _), entry in list(found.items()):
        anywhere = namespace, workflow, None, None
        if anywhere not in found or _rank(found[anywhere]) < _rank(entry):
            found[anywhere] = entry
    return found


def _rank(entry: Registration) -> tuple[Any, datetime]:
    return version_key(entry.version), entry.registered_at


def _servers(
    builds: Mapping[PoolKey, Mapping[str, Build]], carried: Mapping[BuildKey, frozenset[Version]]
) -> Generator[None, None, tuple[dict[PoolKey, dict[Version, str]], dict[PoolKey, dict[Version, int]]]]:
    """The build that serves each version of each pool, which is the newest that carries it, and how many do."""
    servers: dict[PoolKey, dict[Version, str]] = {}
    carriers: dict[PoolKey, dict[Version, int]] = {}
    rows = 0
    for key, of_pool in builds.items():
        serves, counts = servers.setdefault(key, {}), carriers.setdefault(key, {})
        for build in sorted(of_pool.values(), key=_newness):
            versions = carried.get(BuildKey(*key, build.name), frozenset())
            serves.update(dict.fromkeys(versions, build.name))
            counts.update((version, counts.get(version, 0) + 1) for version in versions)
            rows += 1 + len(versions)
            if rows > ROWS_A_STEP:
                rows = 0
                yield
    return servers, carriers


def merged(parts: Collection[Serving]) -> Serving:
    """The snapshot of several namespaces, each of which is in one part."""
    whole = Serving()
    for part in parts:
        whole.by_workflow.update(part.by_workflow)
        whole.by_build.update(part.by_build)
        whole.builds.update(part.builds)
        whole.newest.update(part.newest)
        whole.servers.update(part.servers)
        whole.carriers.update(part.carriers)
        whole.shares.update(part.shares)
        whole.ramps.update(part.ramps)
    sets = zip(*((part.pinned, part.promising, part.settings) for part in parts), strict=True) if parts else ((), (), ())
    pinned, promising, settings = (frozenset[PoolKey]().union(*of) for of in sets)
    return replace(whole, pinned=pinned, promising=promising, settings=settings)


def version_key(version: str) -> tuple[list[int], bool, list[int], str]:
    """Orders versions number by number: 1.9 < 1.10-rc1 < 1.10."""
    release, _, suffix = version.partition("-")
    return _numbers(release), not suffix, _numbers(suffix), version


def _numbers(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text, re.ASCII)]


def _newness(build: Build) -> tuple[bool, datetime, str]:
    # What was registered without a build yields to any named build.
    return build.promoted_at is not None, build.promoted_at or (build.registered_at if build.name else _NEVER), build.name

"""For people and the operator: workflows, workers, pools, builds."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from fastapi import Path, Query
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from aiki import protocol as wire
from aiki.protocol import NAME_PATTERN
from aiki_server.api.context import Context, namespace_of
from aiki_server.api.http import body
from aiki_server.api.http.errors import ApiError, not_found
from aiki_server.api.http.render import json_response
from aiki_server.api.http.slices import sliced
from aiki_server.engine.dispatch.routing import Version
from aiki_server.engine.workers.pools import BuildLoad, Load, Unserved
from aiki_server.model.instants import instant
from aiki_server.model.keys import WorkerKey
from aiki_server.model.workers import WorkerRow

NamePath = Annotated[str, Path(pattern=NAME_PATTERN)]


class Pools:
    """Below /workflows, /workers, /pods and /pools."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def list_workflows(self, request: Request) -> Response:
        """Every workflow version that was registered, and where it is served."""
        engine, namespace = self._context.engine, namespace_of(request)
        async with self._context.quotas.listing(namespace):
            await engine.registry.renew()
        found: dict[tuple[str, str, str], list[str]] = {}
        mine = {workflow: entries for (owner, workflow), entries in engine.registry.serving.by_workflow.items() if owner == namespace}
        for workflow, entries in sorted(mine.items()):
            for entry in entries:
                found.setdefault((workflow, entry.version, entry.pool), []).append(entry.build)
        live = {
            pool: Counter(worker.build or "" for worker in engine.registry.live(namespace, pool)) for pool in {pool for _, _, pool in found}
        }
        shown = (
            wire.WorkflowInfo(
                workflow=workflow,
                version=version,
                pool=pool,
                builds=sorted(build for build in builds if build),
                workers=sum(live[pool][build] for build in set(builds)),
            )
            for (workflow, version, pool), builds in found.items()
        )
        return json_response(to_json(wire.WorkflowList(workflows=[one async for one in sliced(shown, weighs=lambda _: 1)])))

    async def list_workers(self, request: Request) -> Response:
        """The workers whose lease holds."""
        engine, namespace = self._context.engine, namespace_of(request)
        async with self._context.quotas.listing(namespace):
            await engine.registry.renew()
        pools = {worker.pool for worker in engine.registry.workers.values() if worker.namespace == namespace}
        workers = [_worker_info(worker) for pool in sorted(pools) for worker in engine.registry.live(namespace, pool)]
        return json_response(to_json(wire.WorkerList(workers=workers)))

    async def get_pool_loads(self, request: Request) -> Response:
        """What the autoscaler needs to know of every pool."""
        async with self._context.quotas.listing(namespace_of(request)):
            loads = await self._context.engine.pools.loads(namespace_of(request))
        return json_response(to_json(wire.PoolLoads(pools=[await self._load(load) for load in loads])))

    async def get_pool_load(self, request: Request, pool: NamePath) -> Response:
        """What the autoscaler needs to know of one pool."""
        async with self._context.quotas.listing(namespace_of(request)):
            (load,) = await self._context.engine.pools.loads(namespace_of(request), only=pool)
        if not self._context.engine.pools.known(namespace_of(request), pool):
            raise not_found("pool")
        return json_response(to_json(await self._load(load)))

    async def configure_pool(self, request: Request, pool: NamePath) -> Response:
        """Set how a pool treats builds."""
        settings = await body.short(request, wire.PoolSettings)
        self._context.quotas.room_for_pool(self._context.engine, namespace_of(request), pool)
        await self._context.engine.pools.configure(namespace_of(request), pool, versioning=settings.versioning)
        self._context.engine.announce_registry()
        return json_response(to_json(settings))

    async def wait_for_wakes(self, request: Request, timeout: Annotated[float, Query(ge=0, le=60)] = 30.0) -> Response:
        """Waits until work arrives at a pool without a free slot: which pools, or none at the deadline."""
        woken = await self._context.engine.wakes.wait(namespace_of(request), seconds=timeout)
        return json_response(to_json({"pools": woken}))

    async def promote_build(self, request: Request, pool: NamePath, build: NamePath) -> Response:
        """The build takes over the workflow versions that it carries."""
        if not await self._context.engine.pools.promote(namespace_of(request), pool, build):
            raise not_found("build")
        self._context.engine.announce_registry()
        return Response(status_code=204)

    async def share_with_build(self, request: Request, pool: NamePath, build: NamePath) -> Response:
        """The build gets a share of the pool's new runs, before it takes over. A run is drawn once, when it is started, and stays on the build meanwhile."""
        wanted = await body.short(request, wire.BuildShare)
        if not await self._context.engine.pools.share(namespace_of(request), pool, build, wanted.percent):
            if not self._context.engine.pools.has_build(namespace_of(request), pool, build):
                raise not_found("build")
            raise ApiError(
                409, f"Build {build} has taken over in pool {pool}: it gets all new runs, or those that the build after it leaves."
            )
        self._context.engine.announce_registry()
        return Response(status_code=204)

    async def unshare_with_build(self, request: Request, pool: NamePath, build: NamePath) -> Response:
        """The build gets no share any more; in a pool that pins none, the runs that were drawn for it may go to any build. Without a share, nothing changes."""
        await self._context.engine.pools.unshare(namespace_of(request), pool, build)
        self._context.engine.announce_registry()
        return Response(status_code=204)

    async def delete_build(self, request: Request, pool: NamePath, build: NamePath) -> Response:
        """Forget a build that no open run needs."""
        needing = await self._context.engine.pools.delete_build(namespace_of(request), pool, build)
        if needing is None:
            raise not_found("build")
        if needing:
            raise ApiError(409, f"{needing:,} open runs need this build.")
        self._context.engine.announce_registry()
        return Response(status_code=204)

    async def drain_worker(self, request: Request, worker: NamePath) -> Response:
        """Let a worker claim no more, or again."""
        wanted = await body.short(request, wire.Drain)
        engine = self._context.engine
        if not await engine.sessions.drain(WorkerKey(namespace_of(request), worker), drain=wanted.drain):
            raise not_found("worker")
        return Response(status_code=204)

    async def lose_worker(self, request: Request, worker: NamePath) -> Response:
        """The worker is gone for good: its runs move now."""
        moved = await self._context.engine.sessions.lose(WorkerKey(namespace_of(request), worker))
        if moved is None:
            raise not_found("worker")
        return json_response(to_json({"runs": moved}))

    async def lose_pod(self, request: Request, pod: NamePath) -> Response:
        """The pod is gone for good: the runs of all its workers move now."""
        moved = await self._context.engine.sessions.lose_pod(namespace_of(request), pod)
        if moved is None:
            raise not_found("pod with workers")
        return json_response(to_json({"runs": moved}))

    async def _load(self, load: Load) -> wire.PoolLoad:
        builds = [build async for build in sliced(map(_build_info, load.builds), weighs=lambda build: len(build.carries) + 1)]
        return wire.PoolLoad(
            pool=load.pool,
            versioning="Pinned" if load.pinned else "ByVersion",
            now=instant(self._context.engine.clock.now()),
            queued=load.queued,
            oldest_queued_at=load.oldest_queued_at,
            running=load.running,
            due_soon=load.due_soon,
            stream_lag=load.rates.lag,
            arrivals_per_second=load.rates.arrivals_per_second,
            service_seconds=load.rates.service_seconds,
            builds=builds,
            workers=list(map(_worker_info, load.workers)),
            unserved=list(map(_unserved, load.unserved)),
            kept=load.kept,
            trial=None
            if load.trial is None
            else wire.BuildTrial(build=load.trial.build, percent=load.trial.percent, **load.trial.figures._asdict()),
        )


def _unserved(found: Unserved) -> wire.UnservedRuns:
    return wire.UnservedRuns(**found._asdict() | {"builds": sorted(build for build in found.builds if build)}, servable=bool(found.builds))


def _build_info(load: BuildLoad) -> wire.BuildInfo:
    return wire.BuildInfo(
        name=load.build.name,
        promoted=load.build.promoted_at is not None,
        registered_at=load.build.registered_at,
        carries=_versions(load.carries),
        serves=_versions(load.serves),
        queued=load.queued,
        running=load.running,
        open_runs=load.open_runs,
        next_due_at=load.next_due_at,
        busy_workers=sum(worker.active > 0 for worker in load.workers),
        workers=len(load.workers),
        promoted_at=load.build.promoted_at,
    )


def _versions(versions: frozenset[Version]) -> list[wire.WorkflowVersion]:
    return [wire.WorkflowVersion(workflow=workflow, version=version) for workflow, version in sorted(versions)]


def _worker_info(worker: WorkerRow) -> wire.WorkerInfo:
    shown = worker._asdict()
    del shown["namespace"], shown["silent"], shown["carries"]
    return wire.WorkerInfo(**shown)

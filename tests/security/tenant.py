"""One tenant of a crowd that all use the same names: it does everything that a token allows, with its own runs and with others'.

Whatever it sends carries its mark. Whatever it is answered is searched, byte by byte, for the marks, tokens and namespaces of the
others, and the ids in it are kept: at the end each has to be its own, or one that it had sent itself.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp

BASE = "/api/v1"
ID = re.compile(rb"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
WORKFLOWS = ("flow", "child")
VERSION, POOL, POD = "1.0", "main", "pod-1"
WORKERS = ("worker-1", "worker-2")
HELD_AT_MOST = 50
PATIENCE_SECONDS = 30.0
"""A slow machine may not get to every route in the time that there is."""
NOBODY = "0" * 32


@dataclass(slots=True)
class Crowd:
    """What all tenants share: a list of ids of everybody's runs, for asking after what is not one's own."""

    routes: set[tuple[str, str]]
    """Method and path of each route that there is."""
    ids: list[tuple[str, str]] = field(default_factory=list)
    """Namespace and id."""
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Method and path of each route that answered with 2xx to the owner of what it was asked for."""

    @property
    def missing(self) -> set[tuple[str, str]]:
        """The routes that nobody was answered on yet."""
        return self.routes - set(self.reached)

    def publish(self, namespace: str, run: str) -> None:
        """A run that anybody may now try to reach."""
        self.ids.append((namespace, run))
        if len(self.ids) > 2_000:
            del self.ids[:1_000]


class Tenant:
    """Acts with one token. `breaches` says what it was given and should not have been."""

    def __init__(self, url: str, *, namespace: str, token: str, mark: str, foreign: Mapping[str, str], crowd: Crowd, seed: int) -> None:
        self.namespace = namespace
        self.mark = mark
        self.answers = 0
        self.bytes = 0
        self.breaches: list[str] = []
        self.seen: set[str] = set()
        """Ids in answers that it had not sent."""
        self.named: set[str] = set()
        """Ids of others' runs that it gave to children of its own: none of them is made, but its own streams are rung with them."""
        self.redis_url: str | None = None
        self.streams: set[str] = set()
        self._url = url
        self._token = token
        self._foreign = re.compile("|".join(map(re.escape, foreign)).encode())
        self._whose = foreign
        self._crowd = crowd
        self._random = random.Random(seed)
        self._own: list[str] = []
        self._held: dict[str, dict[str, tuple[int, int]]] = {worker: {} for worker in WORKERS}
        self._refs = 0

    async def act(self, until: float) -> None:
        """Do everything at once until the loop's clock says so, and every route was reached; but not for much longer."""
        headers = {"Authorization": f"Bearer {self._token}"}
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as self._session:
            clock = asyncio.get_running_loop().time
            for worker in WORKERS:
                await self._register(worker)

            async def repeat(turn: Any, *arguments: Any) -> None:
                while clock() < until or (self._crowd.missing and clock() < until + PATIENCE_SECONDS):
                    await turn(*arguments)

            async with asyncio.TaskGroup() as group:
                for worker in WORKERS:
                    for _ in range(2):  # two claims of one worker at once are answered in one batch
                        group.create_task(repeat(self._work, worker))
                    group.create_task(repeat(self._steal, worker))
                for turn in (self._start, self._look, self._steer, self._ask_for_others, self._operate):
                    group.create_task(repeat(turn))

    # ---- the wire ---------------------------------------------------------------------------------------------------

    async def call(self, method: str, route: str, body: Any = None, *, own: bool = True, **parts: str) -> tuple[int, Any]:
        """The status and the document; `own` says that what is asked for is this tenant's."""
        query = parts.pop("query", "")
        path = BASE + route.format(**parts) + query
        sent = None if body is None else json.dumps(body)
        kind = {"Content-Type": "application/json"} if sent is not None else {}
        async with self._session.request(method, self._url + path, data=sent, headers=kind) as answer:
            raw = await answer.read()
            heads = repr(tuple(answer.headers.items())).encode()
        self.answers += 1
        self.bytes += len(raw)
        self._search(f"{method} {route}", f"{path}{sent or ''}".encode(), heads + raw)
        if own and answer.status < 300:
            self._crowd.reached[method, route] += 1
        return answer.status, json.loads(raw) if raw else None

    def _search(self, what: str, sent: bytes, answer: bytes) -> None:
        if (found := self._foreign.search(answer)) is not None:
            self._breach(f"{what}: {self.namespace} was answered with {self._whose[found[0].decode()]}: {found[0].decode()!r}")
        self.seen |= {found.decode() for found in set(ID.findall(answer)) - set(ID.findall(sent))}

    def _breach(self, what: str) -> None:
        if len(self.breaches) < 100:
            self.breaches.append(what)

    # ---- clients ----------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        self._refs += 1
        wanted = {"workflow": "flow", "input": {"card": self.mark}, "ref": f"order-{self._refs}"}
        _, one = await self.call("POST", "/runs", wanted)
        _, many = await self.call("POST", "/runs:batch", {"runs": [{"workflow": "flow", "input": self.mark} for _ in range(5)]})
        for run in [one, *many["runs"]]:
            self._own.append(run["id"])
            self._crowd.publish(self.namespace, run["id"])
        del self._own[:-200]

    async def _look(self) -> None:
        run = self._mine()
        await self.call("GET", "/runs/by-ref/{ref}", ref=f"order-{self._random.randint(1, self._refs or 1)}")
        for route in ("/runs/{run}", "/runs/{run}/history"):
            await self.call("GET", route, run=run)
        await self.call("GET", "/runs/{run}/result", run=run, query=f"?timeout={self._random.choice([0, 0.05])}")
        listings = ["", "?status=running", "?workflow=child", f"?parent={run}", f"?cursor={run}", "?ref=order-1", "?limit=1000"]
        await self.call("GET", "/runs", query=self._random.choice(listings))
        for route in ("/workflows", "/workers", "/pools/load"):
            await self.call("GET", route)
        await self.call("GET", "/pools/{pool}/load", pool=POOL)
        await self.call("GET", "/pools/wake", query="?timeout=0")

    async def _steer(self) -> None:
        run = self._mine()
        await self.call("POST", "/runs/{run}/events", {"name": "go", "payload": self.mark, "id": f"e{self._random.randint(1, 9)}"}, run=run)
        verb = self._random.choice(["cancel", "pause", "resume", "retry", "resume", "retry"])
        await self.call("POST", f"/runs/{{run}}/{verb}", {"reason": self.mark} if verb == "cancel" else None, run=run)

    async def _operate(self) -> None:
        versioning = self._random.choice(["ByVersion", "Pinned"])
        await self.call("PUT", "/pools/{pool}", {"versioning": versioning}, pool="other")
        await self.call("POST", "/worker/register", self._registration("worker-9", pool="other", build="b1"))
        share = {"percent": self._random.choice([0, 10, 100])}
        await self.call("PUT", "/pools/{pool}/builds/{build}/share", share, pool="other", build=self._random.choice(["b1", "nobody"]))
        await self.call("POST", "/pools/{pool}/builds/{build}/promote", pool="other", build="b1")
        await self.call("DELETE", "/pools/{pool}/builds/{build}/share", pool="other", build="b1")
        await self.call("POST", "/workers/{worker}/drain", {"drain": True}, worker="worker-9")
        way = self._random.choice(["stop", "worker", "pod"])
        if way == "stop":
            await self.call("POST", "/worker/deregister", {"worker": "worker-9"})
        elif way == "worker":
            await self.call("POST", "/workers/{worker}/lost", worker="worker-9")
        else:
            await self.call("POST", "/pods/{pod}/lost", pod=POD)
        await self.call("DELETE", "/pools/{pool}/builds/{build}", pool="other", build="b1")
        await asyncio.sleep(0.05)

    async def _ask_for_others(self) -> None:
        """Whatever names a run, with one that is somebody else's: the answer is the one that nobody's run gets."""
        run = self._anothers()
        for method, route, body in (
            ("GET", "/runs/{run}", None),
            ("GET", "/runs/{run}/history", None),
            ("GET", "/runs/{run}/result", None),
            ("POST", "/runs/{run}/events", {"name": "go", "payload": self.mark, "id": "e1"}),
            ("POST", "/runs/{run}/cancel", {"reason": self.mark}),
            ("POST", "/runs/{run}/pause", None),
            ("POST", "/runs/{run}/resume", None),
            ("POST", "/runs/{run}/retry", None),
        ):
            status, _ = await self.call(method, route, body, own=False, run=run)
            if status != 404:
                self._breach(f"{method} {route}: {self.namespace} was answered {status} about another namespace's run")
        await self.call("GET", "/runs", own=False, query=f"?parent={run}")
        await self.call("GET", "/runs", own=False, query=f"?cursor={run}")

    # ---- workers ----------------------------------------------------------------------------------------------------

    def _registration(self, worker: str, *, pool: str = POOL, build: str | None = None) -> dict[str, Any]:
        # A pool that comes and goes carries what nobody starts, or its build would be needed for ever.
        carried = [{"workflow": workflow, "version": VERSION} for workflow in (WORKFLOWS if pool == POOL else ("idle",))]
        return {"worker": worker, "pool": pool, "build": build, "pod": POD if build else None, "concurrency": 10, "workflows": carried}

    async def _register(self, worker: str) -> None:
        _, answer = await self.call("POST", "/worker/register", self._registration(worker))
        self.redis_url = answer["redis_url"]
        self.streams |= set(answer["assignment"]["streams"])
        self._held[worker].clear()

    async def _work(self, worker: str) -> None:
        held = self._held[worker]
        _, answer = await self.call("POST", "/worker/heartbeat", {"worker": worker, "active": min(len(held), 10)})
        if not answer["known"]:
            await self._register(worker)
        wanted: dict[str, Any] = {"worker": worker, "limit": 5}
        if self._random.random() < 0.2:
            wanted["runs"] = self._random.sample(self._own, min(3, len(self._own)))
        elif self._random.random() < 0.05:
            wanted["held"] = list(held)
        status, answer = await self.call("POST", "/worker/claim", wanted)
        for run in answer["runs"] if status == 200 else ():
            held[run["id"]] = run["epoch"], 0
        ops = [self._op(worker, run) for run in self._random.sample(list(held), min(5, len(held)))]
        if not ops:
            return
        await self.call("POST", "/worker/commit", {"worker": worker, "ops": ops})
        asked = [{"run": run, "epoch": epoch, "inbox_seen": 0} for run, (epoch, _) in list(held.items())[:5]]
        if asked:
            await self.call("POST", "/worker/inbox", {"worker": worker, "runs": asked})
            await self.call(
                "POST", "/worker/replay", {"worker": worker, "run": asked[0]["run"], "epoch": asked[0]["epoch"], "inbox_seq": 10}
            )
        while len(held) > HELD_AT_MOST:
            del held[next(iter(held))]

    def _op(self, worker: str, run: str) -> dict[str, Any]:
        epoch, number = self._held[worker][run]
        self._held[worker][run] = epoch, number + 1
        op: dict[str, Any] = {"run": run, "epoch": epoch, "number": number + 1, "state": json.dumps({"mark": self.mark})}
        error = {"type": "E", "message": self.mark, "stack": self.mark}
        match self._random.randint(0, 6):
            case 0:
                return op | _entries({"k": "completed", "at": 1}) | {"finish": {"status": "completed", "output": json.dumps(self.mark)}}
            case 1:
                return op | _entries({"k": "failed_run", "at": 1, "e": error}) | {"finish": {"status": "failed", "error": error}}
            case 2:
                waits = [{"kind": "event", "name": "go"}]
                return op | {"park": {"inbox_seen": 0, "due_at": None, "events": ["go"], "children": False, "waits": waits}}
            case 3:
                child = f"00{self._random.getrandbits(120):030x}"
                made = {"id": child, "workflow": "child", "input": json.dumps(self.mark)}
                return op | _entries({"k": "call", "c": number, "a": "child:child@1.0:1", "run": child}) | {"children": [made]}
            case 4:
                return op | {"stop": error}
            case 5:
                return op | {"release": True}
            case _:
                return op | _entries({"k": "done", "c": number, "at": 1, "v": self.mark})

    async def _steal(self, worker: str) -> None:
        """Claim, commit to and ask after runs of others, under the ids that their workers have too."""
        run = self._anothers()
        _, answer = await self.call("POST", "/worker/claim", {"worker": worker, "runs": [run]}, own=False)
        if answer.get("runs"):
            self._breach(f"POST /worker/claim: {self.namespace} was given {run}, which is another namespace's")
        child = {"id": run, "workflow": "child", "input": json.dumps(self.mark)}
        self.named.add(run)
        ops = [
            {"run": run, "epoch": epoch, "number": 1, **_entries({"k": "completed", "at": 1}), "finish": {"status": "completed", "output": json.dumps(self.mark)}}
            for epoch in (1, 2)
        ]  # fmt: skip
        ops += [self._op(worker, mine) | {"children": [child], "cancel_children": [run]} for mine in list(self._held[worker])[:1]]
        _, answer = await self.call("POST", "/worker/commit", {"worker": worker, "ops": ops}, own=False)
        if any(one["outcome"] != "stale" for one in answer["answers"][:2]):
            self._breach(f"POST /worker/commit: {self.namespace} wrote to {run}, which is another namespace's: {answer['answers'][:2]}")
        asked = {"worker": worker, "runs": [{"run": run, "epoch": 1, "inbox_seen": 0}]}
        _, answer = await self.call("POST", "/worker/inbox", asked, own=False)
        if not answer["runs"][0]["stale"]:
            self._breach(f"POST /worker/inbox: {self.namespace} was told that it holds {run}, which is another namespace's")
        _, answer = await self.call("POST", "/worker/replay", {"worker": worker, "run": run, "epoch": 1, "inbox_seq": 10}, own=False)
        if not answer["stale"]:
            self._breach(f"POST /worker/replay: {self.namespace} was given the history of {run}, which is another namespace's")

    def _mine(self) -> str:
        return self._random.choice(self._own) if self._own else NOBODY

    def _anothers(self) -> str:
        others = [
            run for namespace, run in self._random.sample(self._crowd.ids, min(20, len(self._crowd.ids))) if namespace != self.namespace
        ]
        return others[0] if others else NOBODY


def _entries(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"entries": json.dumps(entries), "count": len(entries), "steps": 0}

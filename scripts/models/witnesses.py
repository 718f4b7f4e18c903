"""What a run proves: which replicas Serve and Ray have seen, and what became of every job."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from jobs.job import Job, JobState, RenderState
from jobs.sql.sql_ledger import SqlLedger
from scripts.chaos import auditor
from scripts.models.clients import Clients
from serve_app.operate.serve_api import ClusterFailed, ServeApi

LOOK_SECONDS = 0.5
ACTORS = "/api/v0/actors?detail=1&limit=10000"


class Replica(NamedTuple):
    """A process of Serve's."""

    application: str
    deployment: str
    id: str
    pid: int


def replicas(serve: ServeApi) -> set[Replica]:
    """Those that have a process now. ClusterFailed."""
    return {
        Replica(name, deployment, replica["replica_id"], replica["pid"])
        for name, application in serve.status()["applications"].items()
        for deployment, found in application["deployments"].items()
        for replica in found["replicas"]
        if replica["pid"] is not None
    }


@dataclass
class Seen:
    """Every replica that was there at any look since the first one."""

    first: set[Replica]
    all: set[Replica] = field(default_factory=set)
    last: set[Replica] = field(default_factory=set)

    def restarted(self, *, but: str | None) -> set[Replica]:
        """Those that came or left, except for those of one application."""
        changed = (self.all - self.first) | (self.first - self.last)
        return {replica for replica in changed if replica.application != but}


@asynccontextmanager
async def watching(serve: ServeApi) -> AsyncIterator[Seen]:
    """Looks at all replicas twice a second while the block runs, and once more at its end."""
    seen = Seen(await asyncio.to_thread(replicas, serve))
    task = asyncio.create_task(_watch(serve, seen))
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        seen.last = await asyncio.to_thread(replicas, serve)
        seen.all |= seen.last


async def _watch(serve: ServeApi, seen: Seen) -> None:
    while True:
        with suppress(ClusterFailed):
            seen.all |= await asyncio.to_thread(replicas, serve)
        await asyncio.sleep(LOOK_SECONDS)


def actors(serve: ServeApi) -> Counter[str]:
    """How many actors Ray has ever started for the replicas of each application, each restart of
    one counted again."""
    answer = httpx.get(f"{serve.address}{ACTORS}", timeout=60, trust_env=False).json()
    found: Counter[str] = Counter()
    for actor in answer["data"]["result"]["result"]:
        kind, _, rest = (actor["name"] or "").partition("::")
        if kind == "SERVE_REPLICA":
            found[rest.partition("#")[0]] += 1 + int(actor["num_restarts"] or 0)
    return found


@dataclass
class Interrupted:
    """Jobs of a queue that had a checkpoint when their model was upgraded: passes in it, and their
    fences. furthest_back: the fewest passes that were seen of each afterwards."""

    dsn: str
    queue: str
    saved: dict[str, int] = field(default_factory=dict)
    fences: dict[str, int] = field(default_factory=dict)
    furthest_back: dict[str, int] = field(default_factory=dict)

    def begin(self, at_least: int) -> bool:
        """Take those that are drawn at this moment; False where they are too few."""
        jobs = [job for job in _jobs(self.dsn) if job.request.lane == self.queue and _saved(job)]
        self.saved = {job.id: _saved(job) for job in jobs}
        self.fences = {job.id: job.fence for job in jobs}
        self.furthest_back = dict(self.saved)
        return len(jobs) >= at_least

    def look(self) -> bool:
        """Whether all of them have ended. To be called often."""
        left = [job for job in _jobs(self.dsn) if job.id in self.saved and not job.ended]
        for job in left:
            done = min(self.furthest_back[job.id], job.renders[0].pass_no)
            self.furthest_back[job.id] = done
        return not left

    def verdict(self) -> dict[str, int]:
        """interrupted: were given to another dispatcher. resumed: of those, without doing a saved
        pass again."""
        jobs = [job for job in _jobs(self.dsn) if job.id in self.saved]
        again = [job.id for job in jobs if job.fence > self.fences[job.id]]
        resumed = [one for one in again if self.furthest_back[one] >= self.saved[one]]
        return {"interrupted": len(again), "resumed": len(resumed)}


def _saved(job: Job) -> int:
    render = job.renders[0]
    return render.saved_passes if render.state is RenderState.RENDERING else 0


def _jobs(dsn: str) -> list[Job]:
    with closing(SqlLedger(dsn)) as ledger:
        return ledger.recent("local", 100_000)


def audited(dsn: str, clients: Clients) -> dict[str, Any]:
    """jobs_lost: requests without a picture, and jobs that did not succeed. jobs_doubled: images
    that were settled twice, and requests that became two jobs."""
    jobs, settled = _jobs(dsn), auditor.settled(dsn)
    asked = Counter((job.request.model, job.request.seed) for job in jobs)
    lost = {(job.request.model, job.request.seed) for job in jobs if not _drawn(job, settled)}
    lost |= clients.failed.keys() | (clients.pictures.keys() - asked.keys())
    twice = sum(times > 1 for times in (*settled.values(), *asked.values()))
    return {"jobs": len(jobs), "jobs_lost": len(lost), "jobs_doubled": twice}


def _drawn(job: Job, settled: Counter[tuple[str, int]]) -> bool:
    good = job.state is JobState.SUCCEEDED
    return good and all(settled[job.id, render.index] for render in job.renders)

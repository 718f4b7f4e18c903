"""What the dispatcher's suite is run with: a lane with its ledger, blobs and stages, and as many
dispatchers as a test wants, each with a ledger client of its own."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dispatch.dispatcher import Dispatcher
from dispatch.settings import DispatchSettings, Stages
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.job import Job, JobState
from jobs.lease import Outcome, PreemptionRequest
from jobs.ledger_errors import LedgerUnavailable
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from tests.dispatch.dispatch_stages import Files, Lane, Prompts, Replica, Verdicts, file_of, until
from tests.stages.ledger_kit import LEASE_SECONDS, PATIENCE_SECONDS, Clock, wish


class WatchedLedger(AsyncLedger):
    """Counts what was settled through it. `breaks`: raised by the next finish instead of a write.
    `forgets`: the next finish is written, but its answer is lost. `asked`: calls of `preempt`."""

    breaks: Exception | None = None
    forgets = False

    def __init__(self, ledger: SqlLedger) -> None:
        super().__init__(ledger)
        self.settled: Counter[tuple[str, int]] = Counter()
        self.tries = 0
        self.writing = 0
        self.asked = 0

    async def preempt(self, asking: PreemptionRequest) -> list[str]:
        self.asked += 1
        return await super().preempt(asking)

    async def finish_render(self, job_id: str, fence: int, index: int, outcome: Outcome) -> Job:
        self.tries += 1
        if self.breaks is not None:
            error, self.breaks = self.breaks, None
            raise error
        self.writing += 1
        try:
            job = await super().finish_render(job_id, fence, index, outcome)
            self.settled[job_id, index] += 1
        finally:
            self.writing -= 1
        if self.forgets:
            self.forgets = False
            raise LedgerUnavailable("the answer was lost")
        return job


@dataclass
class Running:
    """One dispatcher at work."""

    dispatcher: Dispatcher
    ledger: WatchedLedger
    task: asyncio.Task[None]

    async def kill(self) -> None:
        """As a killed process: nothing is told, nor written afterwards. What its ledger's
        thread has taken is written first: a claim after a lapse would hold its job for ever."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await asyncio.to_thread(self.ledger.close)

    async def stop(self) -> None:
        """As a process that is asked to leave."""
        await self.dispatcher.stop()
        await self.kill()


class World:
    """A lane in a directory, on a clock that stands still until a test moves it. busy_seconds: so
    long a dispatcher waits for a locked database; then it is away."""

    def __init__(
        self,
        directory: Path,
        *replicas: Replica,
        tiers: Mapping[str, Tier] | None = None,
        busy_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.tiers = tiers
        self.clock = Clock()
        self.path = directory / "ledger.db"
        self.sql = self._open(PATIENCE_SECONDS)
        self.busy_seconds = busy_seconds
        self.blobs = DirectoryBlobs(directory / "blobs")
        self.lane = Lane(*replicas)
        self.other_lane: Lane | None = None
        self.prompts, self.verdicts, self.files = Prompts(), Verdicts(), Files(self.blobs)
        self.dispatchers: list[Running] = []

    def _open(self, busy_seconds: float) -> SqlLedger:
        url = f"sqlite:///{self.path}?timeout={busy_seconds}"
        return SqlLedger(url, clock=self.clock, tiers=self.tiers)

    @property
    def replicas(self) -> list[Replica]:
        """Of both lanes."""
        return self.lane.replicas + (self.other_lane.replicas if self.other_lane else [])

    @property
    def told(self) -> Counter[tuple[int, int]]:
        """How often each (seed, pass) was reported by any replica."""
        return sum((replica.told for replica in self.replicas), Counter())

    @property
    def drawing(self) -> int:
        """Renders in any engine."""
        return sum(r.engine.running + r.engine.finishing for r in self.replicas)

    def submit(self, **changes: Any) -> Job:
        """A job that nobody watches, of eight passes."""
        return self.sql.submit(wish(**({"passes": 8, "watched": False} | changes))).job

    def start(self, elsewhere: Replica | None = None, **settings: Any) -> Running:
        """One more dispatcher, on a replica of its own if one is given."""
        lane = self.lane
        if elsewhere is not None:
            lane = self.other_lane = Lane(elsewhere)
        quick = {
            "lane": "chat", "lease_seconds": LEASE_SECONDS, "heartbeat_seconds": 0.01,
            "idle_poll_seconds": 0.02, "retry_seconds": 0.02, "full_pause_seconds": 0.005,
        }  # fmt: skip
        ledger = WatchedLedger(self._open(self.busy_seconds))
        stages = Stages(self.prompts, self.verdicts, lane, self.files)
        worker = f"w{len(self.dispatchers)}"
        dispatcher = Dispatcher(ledger, stages, DispatchSettings(**(quick | settings)), worker)
        running = Running(dispatcher, ledger, asyncio.create_task(dispatcher.run()))
        self.dispatchers.append(running)
        return running

    async def when(self, job: Job, met: Callable[[Job], bool], what: str) -> Job:
        """The job once it looks like that in the ledger."""

        async def look() -> Job | None:
            found = await asyncio.to_thread(self.sql.get, job.id)
            return found if found is not None and met(found) else None

        found: Job = await until(look, what)
        return found

    async def ended(self, job: Job, state: JobState = JobState.SUCCEEDED) -> Job:
        """The job, which must have ended like that."""
        ended = await self.when(job, lambda job: job.ended, f"{job.id} ends")
        # The ledger shows an end a moment before the one who wrote it has heard so.
        await until(lambda: not any(r.ledger.writing for r in self.dispatchers), "all is heard")
        assert ended.state is state, (ended.state, ended.errors, ended.renders)
        return ended

    async def at_pass(self, job: Job, pass_no: int, index: int = 0) -> Job:
        """The job once the ledger has the checkpoint of that pass."""
        return await self.when(
            job, lambda j: j.renders[index].pass_no == pass_no, f"pass {pass_no} is in the ledger"
        )

    def lapse(self) -> None:
        """Time passes until leases that nobody renews are over, under the eyes of a rescuer."""
        for _ in range(8):
            self.clock.now += LEASE_SECONDS / 4
            self.sql.expire()

    @contextmanager
    def ledger_away(self) -> Iterator[None]:
        """Nobody can write: somebody else has the database locked."""
        other = sqlite3.connect(self.path, isolation_level=None)
        try:
            other.execute("begin immediate")
            yield
        finally:
            other.close()

    def pictures(self, job: Job) -> dict[int, bytes]:
        """The stored files of a job."""
        return {r.index: self.blobs.get(r.blob) for r in job.renders if r.blob is not None}

    @property
    def settled(self) -> Counter[tuple[str, int]]:
        """How often each image was settled, whoever did it."""
        return sum((running.ledger.settled for running in self.dispatchers), Counter())

    async def close(self) -> None:
        """End everything; whatever was left held is a job that would wait for ever."""
        self.verdicts.answers.set()
        for running in self.dispatchers:
            await running.kill()
            assert running.dispatcher.held_jobs == 0
        for replica in self.replicas:
            await asyncio.to_thread(replica.stop)
        self.sql.close()


@asynccontextmanager
async def world(directory: Path, *replicas: Replica, **settings: Any) -> AsyncIterator[World]:
    """A world that is closed at the end. One replica of four slots unless told otherwise."""
    made = World(directory, *(replicas or (Replica(4),)), **settings)
    try:
        yield made
    finally:
        await made.close()


def undisturbed(request: ImageRequest, *indexes: int) -> dict[int, bytes]:
    """The files of these images (all of them by default), drawn alone and in one go."""
    return {i: file_of(request, i) for i in (indexes or range(request.n))}


def once(job: Job, *indexes: int) -> Counter[tuple[int, int]]:
    """Every pass of these images, reported once."""
    request = job.request
    passes = range(1, request.passes + 1)
    images = indexes or range(request.n)
    return Counter((request.image_seed(i), pass_no) for i in images for pass_no in passes)

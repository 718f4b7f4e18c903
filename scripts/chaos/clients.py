"""Clients of the ledger as gateways are: they submit, watch, cancel, and write down what they were
told, each fact only after the ledger's answer. That record is what the auditor believes."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.job import Job
from jobs.ledger_errors import LedgerError, LedgerUnavailable, QuotaExceeded
from jobs.request import ImageRequest
from scripts.chaos.edits import bring
from scripts.chaos.poison import prompt_of
from scripts.chaos.world import WATCH_GRACE_SECONDS, Log, World, wish

TENANTS = 40
PATIENCE_SECONDS = 60.0
POISONOUS = 0.04
EDITS = 4
"""One wish of so many changes a picture."""


def serve(world: World, name: str, wishes: int) -> None:
    """One gateway-like process with so many wishes under way, until it is told to stop."""
    world.speak()
    asyncio.run(_Gateway(world, name).run(wishes))


@dataclass(frozen=True, slots=True)
class _Plan:
    """One user's wish, whether it is for a change of a picture, and whether they change their
    mind."""

    request: ImageRequest
    edit: bool
    cancel_after_seconds: float | None


def _prompt(draw: random.Random) -> str:
    return "a bomb" if draw.random() < 0.05 else f"a red fox {draw.randrange(50)}"


class _Gateway:
    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._log: Log = world.log("told")
        self._draw = random.Random(f"{name} {time.monotonic_ns()}")
        self._name = f"{name}-{self._draw.getrandbits(40):x}"
        self._count = 0
        self._blobs = DirectoryBlobs(world.blobs)

    async def run(self, wishes: int) -> None:
        self._ledger = AsyncLedger(await asyncio.to_thread(self._world.ledger))
        async with asyncio.TaskGroup() as group:
            for _ in range(wishes):
                group.create_task(self._user())
        await asyncio.to_thread(self._ledger.close)

    async def _user(self) -> None:
        while not self._world.stop_file.exists():
            plan = self._plan()
            try:
                job = await self._submit(plan)
                if job is not None:
                    await self._follow(job, plan)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is noted
                self._log.note("wrong", error=repr(error), request=repr(plan.request))
                await asyncio.sleep(0.5)

    def _plan(self) -> _Plan:
        draw, self._count = self._draw, self._count + 1
        tier = draw.choice(("free", "free", "pro"))
        tenant = f"{tier}-{draw.randrange(TENANTS)}"
        impatient = draw.random() < 0.15
        edit = self._count % EDITS == 0
        poison = prompt_of(draw, edit=edit) if draw.random() < POISONOUS else None
        request = wish(
            tenant,
            tier,
            prompt=poison or _prompt(draw),
            n=draw.choice((1, 1, 1, 2, 4)),
            passes=draw.choice((4, 8, 12)),
            seed=draw.randrange(1_000_000),
            partial_images=draw.choice((0, 0, 2)),
            watched=draw.random() < 0.5 and poison is None,
            deadline_seconds=0.2 if draw.random() < 0.03 else 86_400.0,
            idempotency_key=f"{self._name}-{self._count}",
            body_hash=f"{draw.getrandbits(64):x}",
        )
        impatient &= poison is None
        return _Plan(request, edit, draw.uniform(0, 1.5) if impatient else None)

    async def _submit(self, plan: _Plan) -> Job | None:
        """As the SDK does it: the same key again for as long as the answer is 503."""
        request = plan.request
        until = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < until:
            try:
                if plan.edit and request.source is None:
                    request = await bring(self._ledger, self._blobs, request)
                job = (await self._ledger.submit(request)).job
            except (LedgerUnavailable, OSError) as error:
                self._log.note("unavailable", error=str(error)[:200])
                await asyncio.sleep(self._draw.uniform(0.1, 0.5))
            except QuotaExceeded:
                self._log.note("refused", tenant=request.tenant)
                await asyncio.sleep(0.05)
                return None
            else:
                self._log.note("accepted", job=job.id, n=request.n, key=request.idempotency_key)
                return job
        return None

    async def _follow(self, job: Job, plan: _Plan) -> None:
        """Until it has ended; a watched job is watched, an unwatched one asked for now and then."""
        began = renewed = time.monotonic()
        cancel_at = plan.cancel_after_seconds
        while time.monotonic() - began < PATIENCE_SECONDS:
            try:
                now = time.monotonic()
                if cancel_at is not None and now - began > cancel_at:
                    await self._ledger.cancel(job.id)
                    self._log.note("cancelled", job=job.id)
                    cancel_at = None
                if plan.request.watched and now - renewed > WATCH_GRACE_SECONDS / 4:
                    await self._ledger.watch([job.id], WATCH_GRACE_SECONDS)
                    renewed = now
                found = await self._ledger.get(job.id)
                if found is None:
                    self._log.note("wrong", error=f"job {job.id} is unknown")
                    return
                if found.ended:
                    states = [render.state for render in found.renders]
                    self._log.note("ended", job=job.id, state=found.state, images=states)
                    return
                await self._ledger.changed(await self._ledger.version(), 0.25)
            except LedgerUnavailable as error:
                self._log.note("unavailable", error=str(error)[:200])
            except LedgerError as error:
                self._log.note("wrong", error=repr(error))
            await asyncio.sleep(0.1)

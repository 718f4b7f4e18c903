"""What a dispatcher does now and then, done once at the end: forget what nothing points to."""

from __future__ import annotations

import asyncio

from jobs.blobs.collector import Collector
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.retention import Retention
from scripts.chaos.edits import LIFE_SECONDS
from scripts.chaos.faults import HOUR
from scripts.chaos.world import World


def collect(world: World, lane: str) -> None:
    """One collection of blobs that nothing points to, once every job's end is past and what edits
    went on from has expired."""
    world.jump(LIFE_SECONDS + 2 * HOUR)

    async def run() -> None:
        front = AsyncLedger(world.ledger())
        kept = Retention(previews_seconds=0.0, idempotency_seconds=1e9)
        collector = Collector(front, DirectoryBlobs(world.blobs), lane, kept)
        while await collector.turn():
            pass
        await asyncio.to_thread(front.close)

    asyncio.run(run())

"""A dispatcher as a process of its own without Ray: the real one, until it is killed."""

from __future__ import annotations

import asyncio

from dispatch.dispatcher import Dispatcher
from dispatch.settings import DispatchSettings, Stages
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from scripts.chaos.decoding import SocketDecoders
from scripts.chaos.stages import Postprocessor, Prompts, Verdicts
from scripts.chaos.world import ATTEMPTS, CALL_SECONDS, LANE, World


def dispatch(world: World, worker: str) -> None:
    """One dispatcher over its own ledger client."""
    world.speak()
    asyncio.run(_run(world, worker))


async def _run(world: World, worker: str) -> None:
    ledger = AsyncLedger(await asyncio.to_thread(world.ledger))
    stages = Stages(
        encoder=Prompts(),
        classifier=Verdicts(),
        decoders=SocketDecoders(world.sockets, world.slots),
        postprocessor=Postprocessor(DirectoryBlobs(world.blobs)),
    )
    settings = DispatchSettings(
        LANE,
        lease_seconds=world.lease_seconds,
        heartbeat_seconds=world.heartbeat_seconds,
        ready=4,
        attempts=ATTEMPTS,
        retry_seconds=0.2,
        call_timeout_seconds=CALL_SECONDS,
        slow_seconds=0.2,
    )
    await Dispatcher(ledger, stages, settings, worker).run()

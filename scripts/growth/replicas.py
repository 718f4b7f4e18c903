"""What one picture costs a dispatcher and Serve's router while there are more and more replicas.

Real: the dispatcher with its leases and ready queue, the ledger (SQLite), Serve's router. Not real:
a decoder is a timer that lets a picture take as long as keeps the lane at the same pictures in each
second (n replicas of one slot draw for n / PER_SECOND); encoder, screens and store answer at once;
replicas answer the router's question for their queue in this process.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve._private.request_router.common import PendingRequest

from deployments.careful_router import CarefulRouter
from dispatch.dispatcher import Dispatcher
from dispatch.leases import Leases
from dispatch.metering import Unmetered
from dispatch.settings import DispatchSettings, Stages
from dispatch.verdict_notes import VerdictNotes
from engine.render import RenderSpec, RenderUpdate, UpdateKind
from jobs.client.async_ledger import AsyncLedger
from jobs.sql.sql_ledger import SqlLedger
from scripts.bench_ledger.backlog import LANE, WHALE, Backlog, copy, recount, wish
from scripts.fairness.worker import Instant
from scripts.growth.fit import Kind, Row
from scripts.growth.ledgers import LEASE_SECONDS, TIERS, sqlite_without_disk
from scripts.report import say

PER_SECOND = 25.0
PIXELS = np.zeros((8, 8, 3), np.uint8)
CHECKPOINT = b"checkpoint" * 100
MOST_SECONDS = 20.0
"""For which a free slot is looked for."""
GROWS = "replicas"


class Timers:
    """n decoders of one slot each. See dispatch.ports.Decoders and Slot."""

    replica_id, node = "timer", ""

    def __init__(self, replicas: int) -> None:
        self._free = asyncio.Semaphore(replicas)
        self.seconds = replicas / PER_SECOND
        self.begun = 0

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[Timers]:
        """See Decoders."""
        async with self._free:
            yield self

    async def leave(self, render_ids: Sequence[str]) -> None:
        """See Decoders."""

    async def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """See Slot. The first ones take a part of their time, so that ends are spread."""
        self.begun += 1
        share = random.random() if self.begun * 1.0 <= PER_SECOND * self.seconds else 1.0
        yield RenderUpdate(spec.render_id, UpdateKind.ACCEPTED)
        await asyncio.sleep(share * self.seconds)
        yield RenderUpdate(
            spec.render_id, UpdateKind.PASS, spec.passes, decoded=True, checkpoint=CHECKPOINT
        )
        yield RenderUpdate(spec.render_id, UpdateKind.DONE, spec.passes, pixels=PIXELS)


class Counted(Unmetered):
    """How many images are settled."""

    settled_images = 0

    def settled(self, image: object) -> None:
        """See Metering."""
        self.settled_images += 1


def dispatcher(sizes: Sequence[int], repeats: int, folder: Path) -> list[Row]:
    """CPU of this process for each picture, without heartbeats; and one heartbeat of all."""
    logging.getLogger("dispatch").setLevel(logging.ERROR)
    picture: dict[int, list[float]] = {}
    beat: dict[int, list[float]] = {}
    for size in sizes:
        with sqlite_without_disk(folder) as url, closing(SqlLedger(url, tiers=TIERS)) as ledger:
            template = ledger.submit(wish(WHALE)).job.id
            jobs = 3 * size + int(PER_SECOND * 2 * repeats) + 200
            copy(url, template, 0, Backlog(jobs, 1000), {})
            recount(url, template)
            picture[size] = asyncio.run(_draw(AsyncLedger(ledger), size, repeats))
            beat[size] = asyncio.run(_beat(ledger, size, repeats))
            say(f"  {size:,} replicas: {picture[size]} ms of CPU for a picture")
    return [
        Row(GROWS, "dispatcher", "CPU of a picture", "ms", Kind.OPERATION, picture),
        Row(GROWS, "dispatcher", "CPU of a heartbeat of all", "ms", Kind.TOTAL, beat),
    ]


async def _draw(ledger: AsyncLedger, size: int, repeats: int) -> list[float]:
    work, decoders, counted = Instant(), Timers(size), Counted()
    stages = Stages(work, work, decoders, work, counted)
    settings = DispatchSettings(LANE, LEASE_SECONDS, heartbeat_seconds=LEASE_SECONDS, ready=4)
    dispatching = Dispatcher(ledger, stages, settings, "bench")
    running = asyncio.create_task(dispatching.run())
    while decoders.begun < size or counted.settled_images < 5:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    spent = []
    for _ in range(repeats):
        before, cpu = counted.settled_images, time.process_time()
        while counted.settled_images < before + PER_SECOND:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        done = counted.settled_images - before
        spent.append(round(1000 * (time.process_time() - cpu) / done, 3))
    await dispatching.stop()
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return spent


async def _beat(ledger: SqlLedger, size: int, repeats: int) -> list[float]:
    front, work = AsyncLedger(ledger), Instant()
    stages = Stages(work, work, Timers(size), work)
    leases = Leases(front, stages, LEASE_SECONDS, asyncio.Event(), VerdictNotes(False))

    async def wait(_: object) -> None:
        await asyncio.Event().wait()

    while len(leases) < size:
        for job in await front.claim(LANE, "beats", min(200, size - len(leases)), LEASE_SECONDS):
            leases.hold(job, wait)
    spent = []
    for _ in range(repeats):
        began = time.process_time()
        await leases.renew()
        spent.append(1000 * (time.process_time() - began))
    await leases.release_all()
    await leases.end()
    return spent


class Replica:
    """What Serve's router knows of one. asked: how often it was, for its queue."""

    availability_zone = "zone"
    multiplexed_model_ids: set[str] = set()
    max_ongoing_requests = 1

    def __init__(self, number: int, deployment: DeploymentID) -> None:
        self.replica_id = ReplicaID(f"r{number}", deployment)
        self.node_id = f"node-{number // 8}"
        self.ongoing = 0
        self.asked = 0

    async def get_queue_len(self, *, deadline_s: float) -> int:
        """As the replica answers."""
        self.asked += 1
        return self.ongoing

    def fill(self, routing: CarefulRouter) -> None:
        """It has as much to do as it may."""
        self.ongoing = 1
        routing.on_send_request(self.replica_id)

    def free(self, routing: CarefulRouter) -> None:
        """A call has ended there."""
        self.ongoing = 0
        routing.decrement_queue_len_cache(self.replica_id)


async def lane(size: int) -> tuple[CarefulRouter, list[Replica]]:
    """So many replicas of one slot, and the router that chooses between them."""
    deployment = DeploymentID("decoder", "bench")
    routing = CarefulRouter(
        deployment_id=deployment,
        handle_source=DeploymentHandleSource.REPLICA,
        use_replica_queue_len_cache=True,
    )
    replicas = [Replica(number, deployment) for number in range(size)]
    routing.update_replicas(replicas)
    await asyncio.sleep(0.05)
    return routing, replicas


async def full_lane(size: int) -> tuple[CarefulRouter, list[Replica]]:
    """None of them has room."""
    routing, replicas = await lane(size)
    for replica in replicas:
        replica.fill(routing)
    return routing, replicas


async def choosing(routing: CarefulRouter) -> Any:
    """The replica that it chooses for one call."""
    words = RequestMetadata(request_id="bench", internal_request_id="bench")
    asked = PendingRequest(args=[object()], kwargs={}, metadata=words)
    return await routing._choose_replica_for_request(asked)


def router(sizes: Sequence[int], repeats: int) -> list[Row]:
    """Microseconds of CPU of one choice while all replicas have room; and how long the one that
    gets room is looked for when none has."""
    choice: dict[int, list[float]] = {}
    last: dict[int, list[float]] = {}
    for size in sizes:
        choice[size], last[size] = asyncio.run(_route(size, repeats))
        say(f"  {size:,} replicas: router {choice[size][0]:.0f} us, {last[size][0]:.0f} ms")
    return [
        Row(GROWS, "Serve's router", "CPU of a choice", "us", Kind.OPERATION, choice),
        Row(GROWS, "Serve's router", "finding the one with room", "ms", Kind.OPERATION, last),
    ]


async def _route(size: int, repeats: int) -> tuple[list[float], list[float]]:
    choices, lasts = [], []
    routing, replicas = await lane(size)
    for _ in range(repeats):
        began = time.process_time()
        for _ in range(100):
            await choosing(routing)
        choices.append(1e4 * (time.process_time() - began))
    routing, replicas = await full_lane(size)
    for number in range(repeats):
        one = random.Random(number).choice(replicas)
        waiting = asyncio.create_task(choosing(routing))
        await asyncio.sleep(0.3)
        began = time.perf_counter()
        one.free(routing)
        with suppress(TimeoutError):
            async with asyncio.timeout(MOST_SECONDS):
                assert (await waiting) is one
        lasts.append(1000 * (time.perf_counter() - began))
        one.fill(routing)
    return choices, lasts

"""What the bench runs in processes of its own: `lane` draws, `load` submits. Each takes its orders
as one JSON argument, says `ready`, and ends when its standard input does."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from dataclasses import asdict, dataclass
from itertools import count, takewhile

from dispatch.dispatcher import Dispatcher
from dispatch.in_process import InProcessDecoders, InProcessReplica
from dispatch.settings import DispatchSettings, Stages
from engine.decoders.paced import PacedDecoder
from jobs.client.async_ledger import AsyncLedger
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from scripts.fairness.stages import Instant, wish
from scripts.load import poisson_arrivals

TIERS = {"free": Tier(weight=1), "paid": Tier(weight=9)}


@dataclass(frozen=True, slots=True)
class LaneOrder:
    """pass_ms, per_row_ms: the decoder's cost line."""

    url: str
    lane: str
    slots: int
    pass_ms: float
    per_row_ms: float


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """Poisson arrivals from `start_at` (Unix time) on. tenants: so many, in turn. passes: of their
    jobs, in turn. cost: predicted GPU-seconds of a pass."""

    url: str
    lane: str
    tier: str
    tenants: int
    rate: float
    seconds: float
    start_at: float
    passes: int
    pass_cost: float
    seed: int

    def due(self) -> list[float]:
        """When each request is due; the same for the same seed."""
        times = takewhile(lambda at: at < self.seconds, poisson_arrivals(self.rate, self.seed))
        return [self.start_at + at for at in times]


def open_ledger(url: str) -> SqlLedger:
    """One more client of the bench's database."""
    return SqlLedger(url, tiers=TIERS)


async def draw(order: LaneOrder) -> None:
    """One dispatcher with its engine, until told to end."""
    ledger = AsyncLedger(open_ledger(order.url))
    instant = Instant()
    decoder = PacedDecoder(order.pass_ms, order.per_row_ms)
    decoders = InProcessDecoders(InProcessReplica(decoder, order.slots))
    stages = Stages(instant, instant, decoders, instant)
    settings = DispatchSettings(order.lane, heartbeat_seconds=0.25, screen_at=())
    dispatcher = Dispatcher(ledger, stages, settings, f"{order.lane}-{os.getpid()}")
    running = asyncio.create_task(dispatcher.run())
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    ledger.close()


async def submit(order: LoadOrder) -> None:
    """Every request at its time, whatever became of those before; then [id, due] of each."""
    ledger = AsyncLedger(open_ledger(order.url))
    print("ready", flush=True)
    numbers = count()

    async def one(due: float) -> tuple[str, float]:
        number = next(numbers)
        await asyncio.sleep(max(0.0, due - time.time()))
        request = wish(
            lane=order.lane,
            tier=order.tier,
            tenant=f"{order.tier} {number % order.tenants}",
            passes=order.passes,
            cost_seconds=order.passes * order.pass_cost,
            seed=1000 * number,
        )
        return (await ledger.submit(request)).job.id, due

    told = await asyncio.gather(*(one(due) for due in order.due()))
    ledger.close()
    print(json.dumps(told), flush=True)


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    what, order = sys.argv[1], json.loads(sys.argv[2])
    if what == "lane":
        asyncio.run(draw(LaneOrder(**order)))
    else:
        asyncio.run(submit(LoadOrder(**order)))
    os._exit(0)  # the engine's thread may be in the middle of a pass


def command(order: LaneOrder | LoadOrder) -> list[str]:
    """The process that carries it out."""
    what = "lane" if isinstance(order, LaneOrder) else "load"
    return ["-m", "scripts.fairness.worker", what, json.dumps(asdict(order))]


if __name__ == "__main__":
    main()

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
from typing import Any

import numpy as np

from dispatch.dispatcher import Dispatcher
from dispatch.in_process import InProcessDecoders, InProcessReplica
from dispatch.settings import DispatchSettings, Stages
from engine.decoders.paced import PacedDecoder
from engine.policy import Look
from engine.prompt_encoder import EncodedPrompt
from engine.render import Conditioning
from engine.verdict import Verdict
from jobs.client.async_ledger import AsyncLedger
from jobs.request import ImageRequest
from jobs.sql.sql_ledger import SqlLedger
from jobs.tiers import Tier
from scripts.load import poisson_arrivals

_EMBEDDINGS = np.zeros((1, 384), np.float16)
_WORDS = EncodedPrompt(Conditioning.from_numpy("", pooled=_EMBEDDINGS[0]), _EMBEDDINGS)
TIERS = {"free": Tier(weight=1), "paid": Tier(weight=9)}


class Instant:
    """Encoder, classifier and postprocessor in one that take no time and find no harm."""

    async def encode(self, *_: Any) -> Any:
        """See Encoder and Postprocessor."""
        return _WORDS

    async def screen_prompt(self, words: object, embeddings: object, look: Look) -> Verdict:
        """See Classifier."""
        return Verdict(blocked=False)

    async def screen_image(self, pixels: object, look: Look) -> Verdict:
        """See Classifier."""
        return Verdict(blocked=False)

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """See Postprocessor."""

    async def get(self, key: str) -> bytes | None:
        """See Postprocessor."""

    async def delete(self, key: str) -> None:
        """See Postprocessor."""


def wish(**fields: Any) -> ImageRequest:
    """A request for one image, not watched."""
    plain: dict[str, Any] = {
        "model": "paced", "prompt": "a red fox", "n": 1, "width": 128, "height": 128,
        "quality": "auto", "guidance": 2.0, "seed": 7, "watched": False,
    }  # fmt: skip
    return ImageRequest(**(plain | fields))


@dataclass(frozen=True, slots=True)
class LaneOrder:
    """pass_ms, per_row_ms: the decoder's cost line. held: calls that it takes beyond its slots."""

    url: str
    lane: str
    slots: int
    pass_ms: float
    per_row_ms: float
    held: int = 0


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
    replica = InProcessReplica(decoder, order.slots, order.slots + order.held)
    stages = Stages(instant, instant, InProcessDecoders(replica), instant)
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

"""Keeps readings of a queue's load in the ledger, for the operators' charts. One dispatcher of all
that the queue has writes each reading: the first that finds none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from autoscaling.heat import Heat
from autoscaling.lane_heat import LaneHeat
from jobs.client.async_ledger import AsyncLoadHistory
from jobs.history import FINEST_SECONDS, DecoderCounts, LoadSample
from jobs.ledger_errors import LedgerUnavailable

log = logging.getLogger(__name__)


class LoadRecorder:
    """Of one dispatcher. decoders: the queue's decoders as they were seen last."""

    def __init__(
        self,
        ledger: AsyncLoadHistory,
        heat: LaneHeat,
        queue: str,
        decoders: Callable[[], DecoderCounts],
    ) -> None:
        self._ledger = ledger
        self._heat = heat
        self._queue = queue
        self._fleet = decoders

    async def run(self) -> None:
        """Until cancelled. Twice in the finest step, so that none is left out."""
        while True:
            try:
                await self.turn()
            except LedgerUnavailable as error:
                log.info("load of %s is not recorded: %s", self._queue, error)
            except Exception:
                log.exception("load of %s is not recorded", self._queue)
            await asyncio.sleep(FINEST_SECONDS / 2)

    async def turn(self) -> None:
        """Keep one reading. Raises LedgerUnavailable."""
        heat = await self._heat.now()
        await self._ledger.keep_sample(self._queue, load_sample(heat, self._fleet()))


def load_sample(heat: Heat, decoders: DecoderCounts) -> LoadSample:
    """What is kept of a reading."""
    waiting = heat.waiting.items()
    return LoadSample(
        at=heat.read_at,
        waiting_jobs={tier: one.jobs + one.parked_jobs for tier, one in waiting},
        waiting_seconds=round(sum(one.seconds for _, one in waiting), 3),
        running_seconds=round(heat.running_seconds, 3),
        arrival_rate=round(heat.arrival_rate, 4),
        render_rate=None if heat.render_rate is None else round(heat.render_rate, 4),
        drain_seconds=None if heat.drain_seconds is None else round(heat.drain_seconds, 3),
        running=decoders.running,
        starting=decoders.starting,
    )

"""A queue's heat and whether its model has decoders, as metrics, again and again."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable

from autoscaling.heat import Heat
from autoscaling.lane_heat import LaneHeat
from deployments.metrics import catalogue as c
from deployments.metrics.recorder import Metrics
from jobs.ledger_errors import LedgerUnavailable

log = logging.getLogger("ray.serve")

EVERY_SECONDS = 2.0


class HeatGauges:
    """Of one dispatcher; all of a queue show the same. tiers: those of the start, so that one in
    which nothing waits is seen. decoders_away: of its model, now."""

    def __init__(
        self,
        metrics: Metrics,
        heat: LaneHeat,
        queue: str,
        model: str,
        tiers: Iterable[str],
        decoders_away: Callable[[], bool],
    ) -> None:
        self._metrics = metrics
        self._heat = heat
        self._queue = queue
        self._model = model
        self._decoders_away = decoders_away
        self._tiers = {*tiers}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._metrics.show(c.DECODERS_AWAY, self._model, value=self._decoders_away())
            try:
                heat = await self._heat.now()
                self._tiers |= set(heat.waiting)
                show_heat(self._metrics, self._queue, heat, self._tiers)
            except LedgerUnavailable as error:
                log.info("heat is not measured: %s", error)
            except Exception:
                log.exception("heat is not shown")
            await asyncio.sleep(EVERY_SECONDS)


def show_heat(metrics: Metrics, queue: str, heat: Heat, tiers: Iterable[str]) -> None:
    """tiers: that have had waiting jobs; zeros for those without any now."""
    values = heat.drain_seconds, heat.render_rate, heat.arrival_rate, heat.running_seconds
    for gauge, value in zip(c.OF_LANE, values, strict=True):
        metrics.show(gauge, queue, value=math.nan if value is None else value)
    for tier in tiers:
        waiting = heat.waiting.get(tier)
        of_tier = (0.0, 0.0, 0.0)
        if waiting is not None:
            jobs = waiting.jobs + waiting.parked_jobs
            of_tier = waiting.seconds, float(jobs), waiting.oldest_seconds
        for gauge, value in zip(c.OF_TIER, of_tier, strict=True):
            metrics.show(gauge, queue, tier, value=value)

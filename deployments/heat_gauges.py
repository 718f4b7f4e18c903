"""A lane's heat in Ray's metrics, which Prometheus collects from every node."""

from __future__ import annotations

import asyncio
import logging

from ray.serve.metrics import Gauge

from autoscaling.heat import Heat
from autoscaling.heat_metrics import OF_LANE, OF_TIER, of_lane, of_tier
from autoscaling.lane_heat import LaneHeat
from jobs.ledger_errors import LedgerUnavailable

log = logging.getLogger("ray.serve")

EVERY_SECONDS = 2.0


class HeatGauges:
    """Every dispatcher of the lane sets all of them: take the largest, not the sum."""

    def __init__(self, heat: LaneHeat, lane: str) -> None:
        self._heat = heat
        self._lane = {"lane": lane}
        self._of_lane = {name: Gauge(name, what, ("lane",)) for name, what in OF_LANE.items()}
        self._of_tier = {
            name: Gauge(name, what, ("lane", "tier")) for name, what in OF_TIER.items()
        }
        self._tiers: set[str] = set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                self._show(await self._heat.now())
            except LedgerUnavailable as error:
                log.info("heat is not measured: %s", error)
            except Exception:
                log.exception("heat is not shown")
            await asyncio.sleep(EVERY_SECONDS)

    def _show(self, heat: Heat) -> None:
        for name, value in of_lane(heat).items():
            self._of_lane[name].set(value, self._lane)
        self._tiers |= set(heat.waiting)
        for tier in self._tiers:
            for name, value in of_tier(heat, tier).items():
                self._of_tier[name].set(value, {**self._lane, "tier": tier})

"""Temporary limits at work: dispatchers take readings and decide, all processes apply the level.

The level lives in the ledger, so that every gateway and dispatcher has the same, and a restart
changes nothing. Whatever is away, the level holds. Decisions: limits.py.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from autoscaling.heat import drain_seconds
from autoscaling.limits import Threshold, eases_in_seconds, next_level, tightened
from jobs.client.async_ledger import AsyncLedger
from jobs.ledger_errors import LedgerUnavailable
from jobs.limit_levels import LimitLevel
from jobs.tiers import Tier

log = logging.getLogger(__name__)
READING_SECONDS = 2.0
"""Between two readings of a lane, however many dispatchers it has: the first that finds the
last one older takes the next."""
FOLLOW_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Temporary:
    """What a tier promises now instead of its usual. since: on the ledger's clock."""

    usual: Tier
    now: Tier
    since: float
    reason: str
    eases_in_seconds: float


class TemporaryLimits:
    """One queue's limits in one process. Owns the ledger's `tiers`. Used on one event loop."""

    def __init__(
        self,
        ledger: AsyncLedger,
        lane: str,
        tiers: Mapping[str, Tier],
        thresholds: Sequence[Threshold] = (),
        promise: Callable[[Mapping[str, Tier]], None] | None = None,
    ) -> None:
        """promise: tells the ledger what tiers promise; None: in every queue."""
        self._ledger = ledger
        self._lane = lane
        self._promise = promise or ledger.promise
        self._level, self._at, self._seen_at = LimitLevel(), 0.0, time.monotonic()
        self._drawn_rate: float | None = None
        self.adopt(tiers, thresholds)

    def adopt(self, tiers: Mapping[str, Tier], thresholds: Sequence[Threshold]) -> None:
        """Go by other numbers from now on."""
        self._usual, self._thresholds = tiers, thresholds
        self._apply()

    def of(self, tier: str) -> Temporary | None:
        """What is tighter than usual for that tier; None: nothing."""
        usual, now = self._usual.get(tier), self._now.get(tier)
        if usual is None or now is None or usual == now:
            return None
        at = self._at + time.monotonic() - self._seen_at
        eases = eases_in_seconds(self._thresholds, self._level, at)
        return Temporary(usual, now, self._level.since, self._level.reason, eases)

    async def follow(self) -> None:
        """Until cancelled: apply what is decided elsewhere."""
        await _forever(self.look, FOLLOW_SECONDS, self._lane)

    async def decide(self) -> None:
        """Until cancelled: take readings, decide and apply."""
        await _forever(self.turn, READING_SECONDS, self._lane)

    async def look(self) -> None:
        """Apply the level that is kept now. Raises LedgerUnavailable."""
        if self._thresholds:
            self._see(*await self._ledger.limit_level(self._lane))

    async def turn(self) -> None:
        """Take the next reading, unless another dispatcher just did. Raises LedgerUnavailable."""
        before, now = await self._ledger.limit_level(self._lane)
        self._see(before, now)
        if 0 <= now - before.read_at < READING_SECONDS or not (self._thresholds or before.level):
            return
        depth = await self._ledger.depth(self._lane)
        self._drawn_rate = depth.drawn_rate or self._drawn_rate
        work = depth.waiting_seconds + depth.running_seconds
        drain = drain_seconds(work, self._drawn_rate)
        if before.level == before.drain_seconds == drain == 0:
            return  # an idle lane writes nothing
        if drain is None:
            if before.level <= len(self._thresholds):
                return  # the heat is unknown
            drain = before.drain_seconds
        after = next_level(self._thresholds, before, drain, now)
        if await self._ledger.move_limits(self._lane, before, after):
            self._see(after, now)
            if after.level != before.level:
                levels = f"{before.level} to {after.level} of {len(self._thresholds)}"
                log.warning("lane %s: limits from %s: %s", self._lane, levels, after.reason)

    def _see(self, level: LimitLevel, now: float) -> None:
        moved = level.level != self._level.level
        self._level, self._at, self._seen_at = level, now, time.monotonic()
        if moved:
            self._apply()

    def _apply(self) -> None:
        self._now = tightened(self._usual, self._thresholds, self._level.level)
        self._promise(self._now)


class QueueLimits:
    """The limits of each of a lane's queues in one gateway, which only follows them."""

    def __init__(
        self,
        ledger: AsyncLedger,
        queues: Callable[[], Iterable[str]],
        tiers: Mapping[str, Tier],
        thresholds: Sequence[Threshold],
    ) -> None:
        """queues: which there are now."""
        self._ledger = ledger
        self._names = queues
        self._queues: dict[str, TemporaryLimits] = {}
        self.adopt(tiers, thresholds)

    def of(self, queue: str) -> TemporaryLimits:
        """Usual at first, for as long as the next look takes."""
        if queue not in self._queues:
            promise = partial(self._ledger.tighten, queue)
            self._queues[queue] = TemporaryLimits(
                self._ledger, queue, self._usual, self._thresholds, promise
            )
        return self._queues[queue]

    def adopt(self, tiers: Mapping[str, Tier], thresholds: Sequence[Threshold]) -> None:
        """See TemporaryLimits."""
        self._usual, self._thresholds = tiers, thresholds
        self._ledger.promise(tiers)
        for limits in list(self._queues.values()):
            limits.adopt(tiers, thresholds)

    async def follow(self) -> None:
        """See TemporaryLimits."""
        await _forever(self._look, FOLLOW_SECONDS, "all")

    async def _look(self) -> None:
        for queue in self._names():
            await self.of(queue).look()


async def _forever(turn: Callable[[], Awaitable[None]], pause_seconds: float, lane: str) -> None:
    while True:
        try:
            await turn()
        except LedgerUnavailable as error:
            log.warning("lane %s: limits stay as they are: %s", lane, error)
        except Exception:
            log.exception("lane %s: limits stay as they are", lane)
        await asyncio.sleep(pause_seconds)

"""What a tier promises, which tenants it admits, which images are refunded to the quota, and what a
tenant has used of a day's images. Days are calendar days of one time zone. Pure; owns no counts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo

from jobs.job import Render, RenderState

Rollout = str | float
"""How far a tier is open: "off", "on", or a percent of its tenants, as 25 or "25%"."""


def rollout_percent(rollout: Rollout) -> float:
    """0 to 100. YAML reads a bare `off` and `on` as booleans, so these are taken, too. ValueError
    for anything else."""
    if isinstance(rollout, bool) or rollout in ("off", "on"):
        return 100.0 if rollout in (True, "on") else 0.0
    try:
        percent = float(rollout.removesuffix("%") if isinstance(rollout, str) else rollout)
    except (TypeError, ValueError):
        raise ValueError(f"rollout must be off, on or a percent, not {rollout!r}") from None
    if not 0 <= percent <= 100:
        raise ValueError(f"rollout must be 0 to 100 percent, not {rollout}")
    return percent


@dataclass(frozen=True, slots=True)
class Tier:
    """A class of tenants. Limits are per tenant; None: no limit."""

    weight: float = 1.0
    """Share of the lane beside other tiers."""
    images_per_day: int | None = None
    """Counted at submit."""
    concurrent_renders: int | None = None
    """Images in decoders at the same time; further ones wait and delay no other tenant."""
    queued_jobs: int | None = None
    """Jobs that wait in a lane; more are refused."""
    rollout: Rollout = "on"
    newcomers: Rollout = "on"
    """The same, for tenants that never asked for anything; the others stay admitted."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be above 0, not {self.weight}")
        if self.images_per_day is not None and self.images_per_day < 0:
            raise ValueError(f"images_per_day must not be negative: {self.images_per_day}")
        for name in ("concurrent_renders", "queued_jobs"):
            limit = getattr(self, name)
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1, not {limit}")
        rollout_percent(self.rollout)
        rollout_percent(self.newcomers)

    @property
    def open_percent(self) -> float:
        """How much of the tier's tenants is admitted."""
        return rollout_percent(self.rollout)

    def open_to(self, tenant: str) -> bool:
        """Whether the tenant is admitted, by a stable hash: as at 10 %, so at 50 %."""
        return _among(tenant, self.open_percent)

    @property
    def newcomers_percent(self) -> float:
        """How much of those that never asked for anything is admitted."""
        return min(self.open_percent, rollout_percent(self.newcomers))

    def open_to_newcomer(self, tenant: str) -> bool:
        """Whether it is admitted although it never asked for anything. By the same hash."""
        return _among(tenant, self.newcomers_percent)


def _among(tenant: str, percent: float) -> bool:
    if percent in (0, 100):
        return percent == 100
    digest = hashlib.sha256(f"rollout/{tenant}".encode()).digest()
    return int.from_bytes(digest[:8]) < percent / 100 * 2**64


DEFAULT_TIER = Tier()

REFUNDED_BLOCKS_PER_DAY = 20
"""Images of a tenant, of those charged to one day, that are refunded although their prompt was
refused; further ones count. Enough for honest mistakes, too few to search for a way around the
screen for nothing."""
REFUNDED_PASSES_AT_LEAST = 96
REFUNDED_PASSES_PER_IMAGE = 8
"""Images of which something was drawn are given back while the passes of all of them, of those
charged to one day, are no more than this for each image of the daily limit, and than the other at
least. So a tenant draws no more in a day than its images and a share of them."""


def refunded_passes_per_day(images_per_day: int | None) -> int | None:
    """How many passes are given back with images of a day; None: no limit, as of the images."""
    if images_per_day is None:
        return None
    return max(REFUNDED_PASSES_AT_LEAST, REFUNDED_PASSES_PER_IMAGE * images_per_day)


def refunded(render: Render, passes: int) -> bool:
    """Whether a settled image may go back to the quota.

    Our own failures do. A prompt that was refused cost no slot. A cancelled image does only while
    it was worth nothing to the tenant: no preview seen, at most a quarter drawn.
    """
    match render.state:
        case RenderState.FAILED | RenderState.EXPIRED:
            return True
        case RenderState.BLOCKED:
            return render.stage == "input"
        case RenderState.CANCELLED:
            return not render.previews and render.pass_no * 4 <= passes
        case _:
            return False


def drawn_passes(before: Render, after: Render) -> int:
    """How many passes an image that was settled has cost, as far as the ledger knows. The one in
    flight counts, and of a failed image what each of its tries may have done."""
    in_flight = before.state is RenderState.RENDERING
    tries = max(1, after.attempts) if after.state is RenderState.FAILED else 1
    return (after.pass_no + in_flight) * tries


@dataclass(frozen=True, slots=True)
class Refunds:
    """What was given back of the images that were charged to one day."""

    images: int = 0
    blocks: int = 0
    """Those whose prompt was refused."""
    passes: int = 0
    """That had been drawn of them."""

    def with_image(self, before: Render, after: Render, passes: int, most: int | None) -> Refunds:
        """And this one, which has been settled, if it goes back. passes: of the whole image. most:
        passes to be given back."""
        drawn = drawn_passes(before, after)
        block = after.state is RenderState.BLOCKED
        if (
            not refunded(after, passes)
            or (block and self.blocks >= REFUNDED_BLOCKS_PER_DAY)
            or (drawn and most is not None and self.passes + drawn > most)
        ):
            return self
        return Refunds(self.images + 1, self.blocks + block, self.passes + drawn)


@dataclass(frozen=True, slots=True)
class QuotaDays:
    """Days of `zone`, also where one has 23 or 25 hours. Times are seconds since the epoch."""

    zone: tzinfo = UTC

    def of(self, now: float) -> str:
        """The day that `now` is charged to: 2025-03-26."""
        return datetime.fromtimestamp(now, self.zone).date().isoformat()

    def end_of(self, now: float) -> float:
        """When the day of `now` ends. Where the clocks skip midnight, at the skip."""
        tomorrow = datetime.fromtimestamp(now, self.zone).date() + timedelta(days=1)
        return datetime.combine(tomorrow, time(), self.zone).timestamp()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant has used of a day's images. Times are seconds since the epoch on the ledger's
    clock."""

    used: int
    limit: int | None
    """Images a day; None: no limit."""
    read_at: float
    resets_at: float
    """When the next day begins."""

    @property
    def remaining(self) -> int | None:
        """Images left today; None: no limit."""
        return None if self.limit is None else max(0, self.limit - self.used)

    @property
    def resets_in_seconds(self) -> float:
        """Until the next day begins."""
        return max(0.0, self.resets_at - self.read_at)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a tenant stands against its tier's limits."""

    usage: Usage
    queued_jobs: int
    """In one lane, counted up to 10,000, or to a larger limit."""
    renders: int
    """Images under lease, in any lane."""
    newcomer: bool
    """The tenant never ordered anything."""

"""What a tier promises, and which images are given back to the quota. Pure; owns no counts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from jobs.job import Render, RenderState


@dataclass(frozen=True, slots=True)
class Tier:
    """weight: share of the lane beside other tiers. images_per_day: per tenant; None: no limit."""

    weight: float = 1.0
    images_per_day: int | None = None

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ValueError(f"weight must be above 0, not {self.weight}")
        if self.images_per_day is not None and self.images_per_day < 0:
            raise ValueError(f"images_per_day must not be negative: {self.images_per_day}")


DEFAULT_TIER = Tier()


def utc_day(now: float) -> str:
    """The day that `now` (seconds since the epoch) is charged to: 2025-03-26."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def refunded(render: Render, passes: int) -> bool:
    """Whether a settled image goes back to the quota.

    Our own failures do. A prompt that was refused cost no slot. A cancelled image does only while
    it was worth nothing to the one who cancelled: no preview seen, at most a quarter drawn.
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

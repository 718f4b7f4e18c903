"""Temporary limits: what heat does to tiers, and when it is over. Pure.

Heat is the time that a lane needs for the work it has accepted: its drain seconds. Configured
thresholds rise; level n means that the first n of them are passed, and every tier promises the
least that it and any of these thresholds say.

    the level goes   when the drain seconds are                      for its
    up by one        over above_seconds of the next threshold        hold_seconds
    down by one      under below_seconds of the last one passed      hold_seconds
    nowhere          in between, or unknown, or not read for a while
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from jobs.limit_levels import LimitLevel
from jobs.tiers import Rollout, Tier, rollout_percent

BROKEN_SECONDS = 15.0
"""Readings that are further apart do not show that anything has held between them."""


@dataclass(frozen=True, slots=True)
class Tightening:
    """What a tier promises at most; None: what it always does. rollout: the share of tenants that
    may come in for the first time; the others stay admitted."""

    images_per_day: int | None = None
    concurrent_renders: int | None = None
    queued_jobs: int | None = None
    rollout: Rollout = "on"

    def of(self, tier: Tier) -> Tier:
        """The tier under it: nothing is ever loosened."""
        return replace(
            tier,
            images_per_day=_least(tier.images_per_day, self.images_per_day),
            concurrent_renders=_least(tier.concurrent_renders, self.concurrent_renders),
            queued_jobs=_least(tier.queued_jobs, self.queued_jobs),
            newcomers=min(rollout_percent(tier.newcomers), rollout_percent(self.rollout)),
        )


@dataclass(frozen=True, slots=True)
class Threshold:
    """A degree of heat and what it does to tiers. ValueError, beginning with the field's name."""

    above_seconds: float
    below_seconds: float
    hold_seconds: float = 10.0
    tiers: Mapping[str, Tightening] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 < self.above_seconds < float("inf"):
            raise ValueError(f"above_seconds: must be above 0, not {self.above_seconds:g}")
        if not 0 < self.below_seconds < self.above_seconds:
            raise ValueError(
                f"below_seconds: must be above 0 and under above_seconds "
                f"({self.above_seconds:g}), not {self.below_seconds:g}"
            )
        if not 0 <= self.hold_seconds < float("inf"):
            raise ValueError(f"hold_seconds: must not be negative, not {self.hold_seconds:g}")


def check_thresholds(thresholds: Sequence[Threshold]) -> None:
    """ValueError, beginning with number and field, unless they rise."""
    for number, (lower, threshold) in enumerate(pairwise(thresholds), 1):
        for name, rises in (
            ("above_seconds", threshold.above_seconds > lower.above_seconds),
            ("below_seconds", threshold.below_seconds >= lower.below_seconds),
        ):
            if not rises:
                raise ValueError(
                    f"{number}.{name}: thresholds must rise, and {getattr(threshold, name):g} "
                    f"comes after {getattr(lower, name):g}"
                )


def thresholds_of(documents: Sequence[Mapping[str, Any]]) -> tuple[Threshold, ...]:
    """From a config's `temporary_limits`. Raises what Threshold does."""
    return tuple(
        Threshold(
            **{
                **threshold,
                "tiers": {name: Tightening(**t) for name, t in threshold["tiers"].items()},
            }
        )
        for threshold in documents
    )


def tightened(
    tiers: Mapping[str, Tier], thresholds: Sequence[Threshold], level: int
) -> dict[str, Tier]:
    """What the tiers promise at that level; those that no passed threshold names as they are."""
    now = dict(tiers)
    for threshold in thresholds[:level]:
        now |= {
            name: threshold.tiers[name].of(tier)
            for name, tier in now.items()
            if name in threshold.tiers
        }
    return now


def next_level(
    thresholds: Sequence[Threshold], before: LimitLevel, drain_seconds: float, now: float
) -> LimitLevel:
    """After one more reading. A changed level carries its reason, and its holds begin anew."""
    read = replace(before, drain_seconds=drain_seconds, read_at=now)
    if before.level > len(thresholds):
        reason = f"only {len(thresholds)} thresholds are configured now"
        return replace(read, level=len(thresholds), since=now, reason=reason, held_since=now)
    step = _step(thresholds, before.level, drain_seconds)
    followed = 0 <= now - before.read_at <= BROKEN_SECONDS
    if not followed or step != _step(thresholds, before.level, before.drain_seconds):
        read = replace(read, held_since=now)
    threshold = thresholds[before.level - (step < 0)] if step else None
    if threshold is None or now - read.held_since < threshold.hold_seconds:
        return read
    reason = _reason(threshold, step, drain_seconds)
    return replace(read, level=before.level + step, since=now, reason=reason, held_since=now)


def eases_in_seconds(thresholds: Sequence[Threshold], level: LimitLevel, now: float) -> float:
    """The soonest that the level can go down, if nothing more comes in; 0 for the usual limits."""
    if not 0 < level.level <= len(thresholds):
        return 0.0
    threshold = thresholds[level.level - 1]
    left = level.drain_seconds - (now - level.read_at) - threshold.below_seconds
    if level.drain_seconds < threshold.below_seconds:
        left = level.held_since - now  # the hold has begun
    return max(0.0, left + threshold.hold_seconds)


def _step(thresholds: Sequence[Threshold], level: int, drain_seconds: float) -> int:
    """Where a reading points; never both ways, since thresholds rise and below is under above."""
    if level < len(thresholds) and drain_seconds > thresholds[level].above_seconds:
        return 1
    return -1 if level and drain_seconds < thresholds[level - 1].below_seconds else 0


def _reason(threshold: Threshold, step: int, drain_seconds: float) -> str:
    bound = (
        f"over {threshold.above_seconds:g} s"
        if step > 0
        else f"under {threshold.below_seconds:g} s"
    )
    return f"{drain_seconds:.0f} s of work were ahead, {bound} for {threshold.hold_seconds:g} s"


def _least(one: int | None, other: int | None) -> int | None:
    known = [limit for limit in (one, other) if limit is not None]
    return min(known, default=None)

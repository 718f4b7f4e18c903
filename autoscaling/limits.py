"""Temporary limits: what heat does to tiers, and when it is over. Pure.

Heat is the time that a lane needs for the work it has accepted: its drain seconds. Configured marks
rise; level n means that the first n of them are passed, and every tier promises the least that it
and any of these marks say.

    the level goes   when the drain seconds are                      for its
    up by one        over above_seconds of the next mark             hold_seconds
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
    may come in for the first time; who has asked before stays in."""

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
class Mark:
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


def check_marks(marks: Sequence[Mark]) -> None:
    """ValueError, beginning with number and field, unless they rise."""
    for number, (lower, mark) in enumerate(pairwise(marks), 1):
        for name, rises in (
            ("above_seconds", mark.above_seconds > lower.above_seconds),
            ("below_seconds", mark.below_seconds >= lower.below_seconds),
        ):
            if not rises:
                raise ValueError(
                    f"{number}.{name}: marks must rise, and {getattr(mark, name):g} comes after "
                    f"{getattr(lower, name):g}"
                )


def marks_of(documents: Sequence[Mapping[str, Any]]) -> tuple[Mark, ...]:
    """From a config's `temporary_limits`. Raises what Mark does."""
    return tuple(
        Mark(**{**mark, "tiers": {name: Tightening(**t) for name, t in mark["tiers"].items()}})
        for mark in documents
    )


def tightened(tiers: Mapping[str, Tier], marks: Sequence[Mark], level: int) -> dict[str, Tier]:
    """What the tiers promise at that level; those that no passed mark names as they are."""
    now = dict(tiers)
    for mark in marks[:level]:
        now |= {name: mark.tiers[name].of(tier) for name, tier in now.items() if name in mark.tiers}
    return now


def next_level(
    marks: Sequence[Mark], before: LimitLevel, drain_seconds: float, now: float
) -> LimitLevel:
    """After one more reading. A changed level carries its reason, and its holds begin anew."""
    read = replace(before, drain_seconds=drain_seconds, read_at=now)
    if before.level > len(marks):
        reason = f"only {len(marks)} marks are configured now"
        return replace(read, level=len(marks), since=now, reason=reason, held_since=now)
    step = _step(marks, before.level, drain_seconds)
    followed = 0 <= now - before.read_at <= BROKEN_SECONDS
    if not followed or step != _step(marks, before.level, before.drain_seconds):
        read = replace(read, held_since=now)
    mark = marks[before.level - (step < 0)] if step else None
    if mark is None or now - read.held_since < mark.hold_seconds:
        return read
    reason = _reason(mark, step, drain_seconds)
    return replace(read, level=before.level + step, since=now, reason=reason, held_since=now)


def eases_in_seconds(marks: Sequence[Mark], level: LimitLevel, now: float) -> float:
    """The soonest that the level can go down, if nothing more comes in; 0 for the usual limits."""
    if not 0 < level.level <= len(marks):
        return 0.0
    mark = marks[level.level - 1]
    left = level.drain_seconds - (now - level.read_at) - mark.below_seconds
    if level.drain_seconds < mark.below_seconds:
        left = level.held_since - now  # the hold has begun
    return max(0.0, left + mark.hold_seconds)


def _step(marks: Sequence[Mark], level: int, drain_seconds: float) -> int:
    """Where a reading points; never both ways, since marks rise and below is under above."""
    if level < len(marks) and drain_seconds > marks[level].above_seconds:
        return 1
    return -1 if level and drain_seconds < marks[level - 1].below_seconds else 0


def _reason(mark: Mark, step: int, drain_seconds: float) -> str:
    bound = f"over {mark.above_seconds:g} s" if step > 0 else f"under {mark.below_seconds:g} s"
    return f"{drain_seconds:.0f} s of work were ahead, {bound} for {mark.hold_seconds:g} s"


def _least(one: int | None, other: int | None) -> int | None:
    known = [limit for limit in (one, other) if limit is not None]
    return min(known, default=None)

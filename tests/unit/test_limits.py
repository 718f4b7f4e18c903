"""Temporary limits: thresholds, levels and what they do to tiers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaling.limits import (
    BROKEN_SECONDS,
    Threshold,
    Tightening,
    check_thresholds,
    eases_in_seconds,
    next_level,
    tightened,
)
from jobs.limit_levels import LimitLevel
from jobs.tiers import Tier

HOLD = 5.0
WARM = Threshold(60, 30, HOLD, {"free": Tightening(images_per_day=2, rollout=50)})
HOT = Threshold(300, 120, HOLD, {"free": Tightening(1, concurrent_renders=1, rollout="25%")})
THRESHOLDS = (WARM, HOT)
TIERS = {"free": Tier(images_per_day=3), "plus": Tier(weight=4, images_per_day=100)}

Readings = list[tuple[float, float]]
"""(seconds since the one before, drain seconds)"""


def followed(readings: Readings, start: LimitLevel | None = None) -> list[LimitLevel]:
    """The levels after each reading, behind the one before."""
    levels = [start or LimitLevel()]
    now = levels[0].read_at
    for seconds, drain in readings:
        now += seconds
        levels.append(next_level(THRESHOLDS, levels[-1], drain, now))
    return levels


def steps(drains: list[float]) -> Readings:
    return [(1.0, drain) for drain in drains]


def test_a_level_is_entered_after_its_hold_and_left_below_another_mark() -> None:
    levels = followed(steps([100.0] * 8 + [50.0] * 20 + [29.0] * 8))
    assert [after.level for after in levels] == [0] * 6 + [1] * 28 + [0] * 3
    changes = [after for before, after in pairwise(levels) if before.level != after.level]
    assert [(change.level, change.since) for change in changes] == [(1, 6.0), (0, 34.0)]
    assert changes[0].reason == "100 s of work were ahead, over 60 s for 5 s"
    assert changes[1].reason == "29 s of work were ahead, under 30 s for 5 s"


def test_levels_come_one_by_one_each_after_its_hold() -> None:
    levels = [after.level for after in followed(steps([1000.0] * 12 + [0.0] * 13))]
    assert levels == [0] * 6 + [1] * 5 + [2] * 7 + [1] * 5 + [0] * 3


def test_a_hold_begins_anew_when_nobody_looked() -> None:
    before = followed(steps([100.0] * 5))
    after = followed([(BROKEN_SECONDS + 1, 100.0), (HOLD - 1, 100.0), (1, 100.0)], before[-1])
    assert [level.level for level in after] == [0, 0, 0, 1]


def test_fewer_marks_than_before_end_a_level_at_once() -> None:
    left = next_level((), LimitLevel(2, 1.0, "hot", 500.0, 10.0, 10.0), 500.0, 12.0)
    assert (left.level, left.since, left.reason) == (
        0,
        12.0,
        "only 0 thresholds are configured now",
    )


band = st.floats(30, 60)
any_drain = st.one_of(st.floats(0, 1000), st.just(float("inf")))
reading = st.tuples(st.floats(0.5, 20), any_drain)


@given(st.lists(st.tuples(st.floats(0.1, 30), band)), st.sampled_from([0, 1]))
def test_nothing_flaps_inside_the_band(readings: Readings, level: int) -> None:
    assert {after.level for after in followed(readings, LimitLevel(level))} == {level}


@given(st.lists(reading, max_size=60))
def test_changes_are_single_steps_a_hold_apart_and_within_the_marks(readings: Readings) -> None:
    levels = followed(readings)
    changes = [(a, b) for a, b in pairwise(levels) if a.level != b.level]
    assert all(abs(b.level - a.level) == 1 and 0 <= b.level <= len(THRESHOLDS) for a, b in changes)
    entered = [b.since for _, b in changes]
    assert all(later - earlier >= HOLD for earlier, later in pairwise(entered))


@given(st.lists(reading, max_size=40))
def test_when_the_heat_is_over_all_is_as_before(readings: Readings) -> None:
    hot = followed(readings)[-1]
    calm = followed(steps([0.0] * 13), hot)[-1]
    assert calm.level == 0
    assert tightened(TIERS, THRESHOLDS, calm.level) == TIERS


@given(st.lists(reading, max_size=40), st.floats(1, 3))
def test_more_heat_never_means_a_lower_level(readings: Readings, factor: float) -> None:
    """With holds of nothing, so that only the thresholds decide."""
    thresholds = [
        Threshold(threshold.above_seconds, threshold.below_seconds, 0) for threshold in THRESHOLDS
    ]
    cool, hot, now = LimitLevel(), LimitLevel(), 0.0
    for seconds, drain in readings:
        now += seconds
        cool = next_level(thresholds, cool, drain, now)
        hot = next_level(thresholds, hot, drain * factor, now)
        assert hot.level >= cool.level


@given(st.integers(0, 2), st.integers(0, 2))
def test_levels_only_tighten_and_others_are_untouched(one: int, other: int) -> None:
    low, high = (tightened(TIERS, THRESHOLDS, level) for level in sorted((one, other)))
    assert low["plus"] == high["plus"] == TIERS["plus"]
    assert (high["free"].images_per_day or 0) <= (low["free"].images_per_day or 0)
    for number in range(200):
        assert low["free"].open_to_newcomer(f"t{number}") or not high["free"].open_to_newcomer(
            f"t{number}"
        )
        assert high["free"].open_to(f"t{number}"), "who is in stays in"


def test_the_least_of_the_tier_and_all_passed_marks_counts() -> None:
    free = tightened({"free": Tier(images_per_day=1, rollout=40)}, THRESHOLDS, 2)["free"]
    assert free == Tier(images_per_day=1, concurrent_renders=1, rollout=40, newcomers=25.0)
    assert tightened({"free": Tier()}, THRESHOLDS, 1)["free"].images_per_day == 2


def test_how_soon_it_can_ease() -> None:
    level = LimitLevel(1, 0.0, "hot", drain_seconds=90.0, read_at=100.0, held_since=95.0)
    assert eases_in_seconds(THRESHOLDS, level, 110.0) == 90 - 10 - 30 + HOLD
    cooling = LimitLevel(1, 0.0, "hot", drain_seconds=20.0, read_at=100.0, held_since=98.0)
    assert eases_in_seconds(THRESHOLDS, cooling, 101.0) == 2.0
    assert eases_in_seconds(THRESHOLDS, LimitLevel(), 101.0) == 0.0


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ((0, 0), "above_seconds"),
        ((float("inf"), 1), "above_seconds"),
        ((10, 10), "below_seconds"),
        ((10, 0), "below_seconds"),
        ((10, float("nan")), "below_seconds"),
        ((10, 5, -1), "hold_seconds"),
    ],
)
def test_a_mark_that_makes_no_sense_names_its_field(fields: tuple[float, ...], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: "):
        Threshold(*fields)


@pytest.mark.parametrize(
    ("thresholds", "name"),
    [
        ((Threshold(60, 30), Threshold(60, 40)), "1.above_seconds"),
        ((Threshold(60, 30), Threshold(70, 20)), "1.below_seconds"),
        ((Threshold(60, 30), Threshold(70, 30), Threshold(65, 30)), "2.above_seconds"),
    ],
)
def test_thresholds_must_rise(thresholds: tuple[Threshold, ...], name: str) -> None:
    check_thresholds(THRESHOLDS)
    with pytest.raises(ValueError, match=f"^{name}: thresholds must rise"):
        check_thresholds(thresholds)

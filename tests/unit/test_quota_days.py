"""Days of a time zone, also those that have not 24 hours."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from jobs.tiers import QuotaDays

HOUR = 3600.0


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_a_day_begins_at_midnight_utc_unless_told_otherwise() -> None:
    days = QuotaDays()
    assert (days.of(0), days.of(86_399.9), days.of(86_400)) == (
        "1970-01-01", "1970-01-01", "1970-01-02",
    )  # fmt: skip
    assert (days.end_of(0), days.end_of(86_400)) == (86_400, 2 * 86_400)


def test_the_zone_says_which_day_it_is() -> None:
    now = at("2025-03-25T23:30:00")
    assert QuotaDays(ZoneInfo("Europe/Berlin")).of(now) == "2025-03-26"
    assert QuotaDays(ZoneInfo("America/Los_Angeles")).of(now) == "2025-03-25"


@pytest.mark.parametrize(
    ("zone", "morning", "hours"),
    [
        ("Europe/Berlin", "2025-03-30T00:00:00", 23),
        ("Europe/Berlin", "2025-10-26T00:00:00", 25),
        ("Europe/Berlin", "2025-06-01T00:00:00", 24),
        ("Africa/Cairo", "2025-04-24T00:00:00", 24),  # the next midnight does not exist
        ("Africa/Cairo", "2025-04-25T01:00:00", 23),
        ("America/Havana", "2025-11-02T00:00:00", 25),  # its first hour comes twice
    ],
)
def test_a_day_is_as_long_as_the_clocks_make_it(zone: str, morning: str, hours: int) -> None:
    days, begin = QuotaDays(ZoneInfo(zone)), at(morning, zone)
    assert days.end_of(begin) - begin == hours * HOUR
    assert days.end_of(begin + HOUR) == days.end_of(begin)


@pytest.mark.parametrize(
    "zone",
    [
        "UTC",
        "Europe/Berlin",
        "Africa/Cairo",
        "America/Havana",
        "Asia/Kathmandu",
        "America/St_Johns",
    ],
)
def test_days_follow_each_other_without_a_gap(zone: str) -> None:
    days, now = QuotaDays(ZoneInfo(zone)), at("2025-01-01T00:00:00")
    seen = []
    while now < at("2026-01-01T00:00:00"):
        end = days.end_of(now)
        assert days.of(end - 0.5) == days.of(now) < days.of(end)
        seen.append(days.of(now))
        now = end
    assert len(seen) == len(set(seen)) >= 365
    assert datetime.fromtimestamp(now, UTC).year == 2026

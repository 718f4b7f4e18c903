"""What a tier promises and who may come in."""

from __future__ import annotations

import pytest

from jobs.tiers import Tier, rollout_percent

TENANTS = [f"tenant-{number}" for number in range(2000)]


@pytest.mark.parametrize(
    ("given", "percent"),
    [("off", 0), (False, 0), ("on", 100), (True, 100), (25, 25), ("12.5%", 12.5), ("40", 40)],
)
def test_a_rollout_is_off_on_or_a_percent(given: str | float, percent: float) -> None:
    assert rollout_percent(given) == percent


@pytest.mark.parametrize("wrong", ["soon", -1, 101, "101%", float("nan"), None, []])
def test_any_other_rollout_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="rollout must be"):
        Tier(rollout=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["concurrent_renders", "queued_jobs"])
def test_a_limit_that_lets_nobody_in_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Tier(**{name: 0})  # type: ignore[arg-type]


def test_opening_further_never_shuts_anybody_out() -> None:
    inside: set[str] = set()
    for percent in (0, 1, 10, 50, 90, 100):
        tier = Tier(rollout=percent)
        now = {tenant for tenant in TENANTS if tier.open_to(tenant)}
        assert now >= inside
        assert abs(len(now) / len(TENANTS) - percent / 100) < 0.04
        inside = now
    assert inside == set(TENANTS)

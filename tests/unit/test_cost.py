"""What a pass costs, and what of it a render pays."""

from __future__ import annotations

import pytest

from engine.cost import CostMeter, PassCost


def test_a_negative_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        PassCost(-1, 0)


def test_a_render_pays_its_beginning_and_its_share_of_every_pass() -> None:
    meter = CostMeter()
    meter.add_setup(0.02)
    meter.add_pass(0.4, 4)
    meter.add_pass(0.3, 2)
    assert meter.total(passes=2, slots=4) == pytest.approx(0.02 + 0.1 + 0.15)


@pytest.mark.parametrize(
    ("rides", "passes"), [([(0.4, 4)], 2), ([(0.2, 1), (0.2, 2)], 2), ([], 0), ([], 3)]
)
def test_a_render_that_went_on_from_elsewhere_or_rode_alone_says_nothing(
    rides: list[tuple[float, int]], passes: int
) -> None:
    meter = CostMeter()
    for seconds, width in rides:
        meter.add_pass(seconds, width)
    assert meter.total(passes, slots=4) == 0.0

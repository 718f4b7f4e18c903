"""What a pass is believed to cost, before and after measuring."""

from __future__ import annotations

import pytest

from engine.cost import PRIOR, CostTable, Fare, PassCost


def test_an_unmeasured_family_costs_its_prior() -> None:
    table = CostTable(priors={"paced": PassCost(0.02, 0.005)})
    assert table.pass_seconds("paced", 4) == pytest.approx(0.04)
    assert table.pass_seconds("unheard-of", 2) == PRIOR.seconds(2)


def test_the_first_measurement_replaces_the_prior_and_later_ones_move_it_slowly() -> None:
    table = CostTable(smoothing=0.25)
    table.observe("masked", 2, 0.4)
    assert table.pass_seconds("masked", 2) == pytest.approx(0.4)
    table.observe("masked", 2, 0.8)
    assert table.pass_seconds("masked", 2) == pytest.approx(0.5)


def test_measuring_converges_on_a_new_speed() -> None:
    table = CostTable()
    table.observe("masked", 1, 10.0)
    for _ in range(100):
        table.observe("masked", 1, 0.1)
    assert table.pass_seconds("masked", 1) == pytest.approx(0.1, rel=0.01)


def test_an_unmeasured_width_is_the_prior_scaled_by_its_nearest_neighbour() -> None:
    table = CostTable(priors={"masked": PassCost(0.1, 0.1)})
    table.observe("masked", 1, 0.4)
    table.observe("masked", 8, 0.9)
    assert table.pass_seconds("masked", 2) == pytest.approx(0.6)
    assert table.pass_seconds("masked", 7) == pytest.approx(0.8)


def test_families_and_widths_do_not_mix() -> None:
    table = CostTable()
    table.observe("masked", 1, 5.0)
    assert table.pass_seconds("paced", 1) == PRIOR.seconds(1)


def test_a_request_costs_its_share_of_the_passes_it_rides_in() -> None:
    table = CostTable(priors={"masked": PassCost(0.1, 0.05)})
    assert table.request_seconds("masked", passes=8) == pytest.approx(8 * 0.15)
    assert table.request_seconds("masked", passes=8, n=3) == pytest.approx(24 * 0.15)
    assert table.request_seconds("masked", passes=8, n=4, width=4) == pytest.approx(8 * 0.3)


def test_a_family_that_costs_nothing_stays_finite() -> None:
    table = CostTable(priors={"paced": PassCost(0.0, 0.0)})
    table.observe("paced", 1, 0.0)
    assert table.pass_seconds("paced", 3) == 0.0


@pytest.mark.parametrize(("width", "seconds"), [(0, 0.1), (1, -0.1)])
def test_nonsense_is_not_learned(width: int, seconds: float) -> None:
    with pytest.raises(ValueError, match="not a measured pass"):
        CostTable().observe("masked", width, seconds)


def test_a_negative_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="less than nothing"):
        PassCost(-1, 0)


def test_a_render_pays_its_share_of_every_pass() -> None:
    fare = Fare()
    fare.ride(0.4, 4)
    fare.ride(0.3, 2)
    assert fare.whole(passes=2, slots=4) == pytest.approx(0.1 + 0.15)


@pytest.mark.parametrize(
    ("rides", "passes"), [([(0.4, 4)], 2), ([(0.2, 1), (0.2, 2)], 2), ([], 0), ([], 3)]
)
def test_a_render_that_went_on_from_elsewhere_or_rode_alone_says_nothing(
    rides: list[tuple[float, int]], passes: int
) -> None:
    fare = Fare()
    for seconds, width in rides:
        fare.ride(seconds, width)
    assert fare.whole(passes, slots=4) == 0.0

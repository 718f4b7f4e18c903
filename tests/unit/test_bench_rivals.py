"""The bench beside rivals: rivals get their best batches, and the figures mean what they say."""

from __future__ import annotations

import pytest

from scripts.bench.rivals.fastapi_lock import passes_alone
from scripts.bench.workload import Recipe, asks
from scripts.bench_rivals.figures import GOALS, SideFigures, ratios, worst
from scripts.bench_rivals.plan import (
    CASES,
    PASSES,
    Batching,
    Case,
    best_batching,
    mean_passes,
    static_capacity,
    static_latencies,
)
from scripts.bench_rivals.sides import recipe_of, settings
from scripts.cluster import args_of
from scripts.report import missed
from serve_app.config.cluster import parse_cluster_config


def shared(width: int) -> float:
    """Rows cost nothing."""
    return 1.0


def alone(width: int) -> float:
    """Rows share nothing."""
    return float(width)


def test_a_batch_starts_when_it_is_full() -> None:
    arrivals = [(0.0, 4), (1.0, 2), (1.5, 3)]
    found = static_latencies(arrivals, shared, Batching(2, 10.0))
    assert found == [5.0, 4.0, 13.0]  # the third waits in vain for a fourth


def test_a_batch_starts_when_its_first_has_waited() -> None:
    found = static_latencies([(0.0, 4), (1.0, 2)], shared, Batching(2, 0.5))
    assert found == [4.5, 5.5]


def test_a_batch_lasts_as_long_as_its_longest_and_every_row_costs() -> None:
    found = static_latencies([(0.0, 4), (0.0, 1)], alone, Batching(2, 0.0))
    assert found == [8.0, 8.0]


def test_devices_share_one_line() -> None:
    arrivals = [(0.0, 10), (0.0, 2), (0.0, 3)]
    assert static_latencies(arrivals, alone, Batching(1, 0.0), devices=2) == [10.0, 2.0, 5.0]


def test_one_at_a_time_does_the_mean_of_all_passes() -> None:
    assert static_capacity(alone, 1, 2) == pytest.approx(2 / mean_passes(), rel=0.02)


def test_rivals_batch_where_rows_share_passes_and_only_there() -> None:
    by_model = {case.model: best_batching(case).batch for case in CASES if case.devices == 1}
    assert by_model == {"sdxl": 1, "flux": 1, "janus": 8}


def test_the_limit_is_that_of_the_table() -> None:
    case = Case("flux", 4, 0.25)
    assert case.slots == 4
    assert case.limit == pytest.approx(4 / (mean_passes() * 0.25 * 0.8962 / 4))


def test_every_side_draws_by_the_same_table() -> None:
    case = Case("janus", 4, 2.0)
    args = parse_cluster_config(args_of(settings(case)))
    recipe = recipe_of(case, Batching(8, 0.2))
    assert args.model.options == recipe.options == {"table": "janus", "time_scale": 2.0}
    assert args.qualities.offered() == recipe.passes == PASSES
    assert (args.decoder.slots, args.decoder.replicas, recipe.batch) == (8, 4, 8)
    assert args.safety.screens == recipe.screens
    assert args.model.guidance == recipe.guidance
    assert not recipe.rows_leave


def test_each_figure_is_over_whichever_rival_is_best_in_it() -> None:
    rivals = {
        "lock": SideFigures(2.0, [5.0, 1.0], [40.0]),
        "batch": SideFigures(3.0, [8.0], [30.0]),
        "slow": SideFigures(1.0),
    }
    found = ratios(SideFigures(4.5, [2.0, 3.0], [2.4]), rivals, 5.0)
    assert found == pytest.approx(
        {
            "images_per_s_over_best_rival": 1.5,
            "p99_over_best_rival": 0.6,
            "paid_p99_over_best_rival": 0.08,
            "stack_over_engine": 0.9,
        }
    )
    assert missed(GOALS, found) == ["stack_over_engine"]


def test_what_was_not_measured_has_no_figure() -> None:
    found = ratios(SideFigures(4.0), {"lock": SideFigures(2.0)}, None)
    assert found == {"images_per_s_over_best_rival": 2.0}


def test_the_worst_case_of_each_key_counts() -> None:
    cases = {
        "a": {"images_per_s_over_best_rival": 1.1, "p99_over_best_rival": 0.3},
        "b": {"images_per_s_over_best_rival": 1.9, "p99_over_best_rival": 0.5},
    }
    assert worst(cases) == {"images_per_s_over_best_rival": 1.1, "p99_over_best_rival": 0.5}


async def test_a_rival_whose_passes_alone_are_locked_answers_with_files() -> None:
    passes = dict.fromkeys(PASSES, 2)
    recipe = Recipe("paced", {}, passes, 2.0, ("sexual",), threads=1)
    draw = passes_alone(recipe, devices=1)
    for ask in asks(0, 2, passes):
        assert (await draw(ask)).startswith(b"\x89PNG")

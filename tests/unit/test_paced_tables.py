"""Tables of pass times: read between their widths, and slept by the paced family."""

from __future__ import annotations

import pytest

from engine.decoders.paced import PacedDecoder
from engine.decoders.paced_tables import TABLES, PassTable
from tests.golden.decoder_contract import draw, spec

TABLE = PassTable({1: 10.0, 2: 12.0, 8: 48.0}, "made up")


@pytest.mark.parametrize(
    ("width", "seconds"), [(1, 0.010), (2, 0.012), (5, 0.030), (8, 0.048), (10, 0.060)]
)
def test_a_pass_lasts_what_the_line_between_two_widths_says(width: int, seconds: float) -> None:
    assert TABLE.seconds(width) == pytest.approx(seconds)


def test_wider_than_pays_is_not_wished() -> None:
    assert TABLE.narrowest() == 2
    assert PassTable({1: 10.0, 8: 12.0}, "rows share").narrowest() == 8
    assert PassTable({1: 10.0, 8: 80.0}, "rows share nothing").narrowest() == 1


@pytest.mark.parametrize(
    ("pass_ms", "says"),
    [
        ({1: 10.0}, "two widths"),
        ({2: 10.0, 4: 12.0}, "rising from 1"),
        ({1: 10.0, 4: 12.0, 2: 11.0}, "rising from 1"),
        ({1: 10.0, 2: 9.0}, "not fall"),
        ({1: 0.0, 2: 9.0}, "above 0"),
    ],
)
def test_a_table_that_cannot_be_is_refused(pass_ms: dict[int, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        PassTable(pass_ms, "")


def test_no_pass_has_less_than_one_row() -> None:
    with pytest.raises(ValueError, match="width"):
        TABLE.seconds(0)


def test_every_table_says_where_it_is_from() -> None:
    assert set(TABLES) == {"sdxl", "flux", "janus"}
    assert all(table.source and table.widest == 8 for table in TABLES.values())


def test_the_decoder_sleeps_by_its_table() -> None:
    slept: list[float] = []
    decoder = PacedDecoder(table="sdxl", time_scale=0.5, sleep=slept.append)
    draw(decoder, spec("a", 1, 2), spec("b", 2, 3))
    assert slept == pytest.approx([0.02018, 0.02018, 0.01123])
    assert decoder.plan(spec()).pass_seconds == pytest.approx(0.01123)


def test_the_line_of_costs_goes_through_the_ends_of_the_table() -> None:
    cost = PacedDecoder(table="janus", time_scale=2.0).cost
    assert cost.seconds(1) == pytest.approx(2 * 0.0588)
    assert cost.seconds(8) == pytest.approx(2 * 0.0692)


def test_an_option_that_cannot_be_is_named() -> None:
    with pytest.raises(ValueError, match=r"table must be one of sdxl, flux, janus, got 'sd3'"):
        PacedDecoder(table="sd3")
    with pytest.raises(ValueError, match="time_scale"):
        PacedDecoder(table="sdxl", time_scale=0.0)

"""The bench of edits measures edits, each beside a full render of its own turn."""

from __future__ import annotations

import numpy as np
import pytest

from engine.capabilities import capabilities
from engine.decoders.paced import PacedDecoder
from scripts.edits.measure import Kind, Studio, measure, moved, veil
from tests.golden.decoder_contract import conditioning


def test_every_kind_is_drawn_in_every_turn() -> None:
    studio = Studio(PacedDecoder(0, 0), capabilities("paced", {}))
    found = measure(studio, [conditioning(1), conditioning(2)], turns=3)
    assert [kind.passes for kind in found] == [12, 3, 3, 1, 6, 12]
    assert all(len(kind.seconds) == 3 and min(kind.seconds) > 0 for kind in found)
    assert all(kind.moved == 0 for kind in found)


def test_a_ratio_is_the_median_of_its_turns() -> None:
    whole = Kind("whole", 1.0, None, seconds=[1.0, 2.0, 10.0])
    part = Kind("part", 0.25, True, seconds=[0.3, 0.4, 9.0])
    assert part.over(whole) == pytest.approx(0.3)


def test_pixels_that_stay_are_looked_at_alone() -> None:
    before, redraw = np.zeros((96, 96, 3), np.uint8), np.arange(64) < 16
    assert moved(before, before + 200, redraw, (8, 8)) == 0
    stays = veil(redraw, (8, 8), 96)
    assert stays[:24].max() == 0
    assert stays[24:].min() == 255

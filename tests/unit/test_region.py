"""Which cells an edit redraws, how many passes that takes, and how a region is written down."""

from __future__ import annotations

import numpy as np
import pytest

from engine.region import changed_passes, edit_passes, from_hex, scattered, to_hex

CELLS = 64


@pytest.mark.parametrize("passes", [1, 4, 12, 32])
def test_more_cells_never_take_fewer_passes(passes: int) -> None:
    counts = [edit_passes(passes, redrawn, CELLS) for redrawn in range(1, CELLS + 1)]
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[-1] == passes
    assert all(count <= redrawn for redrawn, count in enumerate(counts, start=1))


@pytest.mark.parametrize("passes", [4, 12, 32])
def test_a_quarter_of_the_cells_takes_a_quarter_of_the_passes(passes: int) -> None:
    assert edit_passes(passes, CELLS // 4, CELLS) == passes / 4


@pytest.mark.parametrize("redrawn", [0, CELLS + 1])
def test_no_cell_and_too_many_are_refused(redrawn: int) -> None:
    with pytest.raises(ValueError, match="redrawn"):
        edit_passes(12, redrawn, CELLS)


@pytest.mark.parametrize(
    ("passes", "strength", "down", "up"),
    [(20, 1.0, 20, 20), (20, 0.8, 16, 16), (12, 0.8, 9, 10), (12, 0.05, 0, 1), (100, 0.29, 28, 29)],
)
def test_strength_is_a_share_of_the_passes(
    passes: int, strength: float, down: int, up: int
) -> None:
    assert changed_passes(passes, strength, rounds_up=False) == down
    assert changed_passes(passes, strength, rounds_up=True) == up


def test_strength_is_the_share_of_cells() -> None:
    counts = {share: int(scattered(CELLS, share, 7).sum()) for share in (0.0, 0.3, 0.6, 1.0)}
    assert counts == {0.0: 1, 0.3: 19, 0.6: 38, 1.0: 64}


def test_a_stronger_change_holds_the_weaker_one() -> None:
    weak, strong = (scattered(CELLS, share, 7) for share in (0.3, 0.6))
    assert (strong | ~weak).all()


def test_the_seed_decides_the_cells() -> None:
    first, again, other = (scattered(CELLS, 0.5, seed) for seed in (7, 7, 8))
    assert (first == again).all()
    assert (first != other).any()


def test_the_cells_lie_in_patches() -> None:
    """Of a cell's right neighbours most are drawn too; strewn about, 0.3 of them would be."""
    grids = np.stack([scattered(CELLS, 0.3, seed).reshape(8, 8) for seed in range(20)])
    together = (grids[:, :, 1:] & grids[:, :, :-1]).sum() / grids[:, :, :-1].sum()
    assert together > 0.6


def test_what_is_drawn_in_any_case_grows_into_its_neighbours() -> None:
    core = np.zeros((8, 8), np.bool_)
    core[2:5, 2:5] = True
    for share, drawn in ((0.0, 9), (0.1, 9), (0.3, 19), (1.0, 64)):
        redraw = scattered(CELLS, share, 4, core.reshape(-1)).reshape(8, 8)
        assert redraw.sum() == drawn
        assert redraw[core].all()
        assert share == 1.0 or not redraw[[0, 6, 7]].any(), "the nearest ones come first"


@pytest.mark.parametrize("cells", [1, 7, 64, 256])
def test_a_region_comes_back_from_its_hex(cells: int) -> None:
    redraw = scattered(cells, 0.4, 3)
    text = to_hex(redraw)
    assert len(text) == 2 * -(-cells // 8)
    np.testing.assert_array_equal(from_hex(text, cells), redraw)


@pytest.mark.parametrize("text", ["", "ff", "ffff00", "xyz1", "0001"])
def test_hex_of_other_cells_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"region|hexadecimal"):
        from_hex(text, 15)

"""A picture with alpha, as it is drawn and as it is handed out."""

from __future__ import annotations

import numpy as np
import pytest

from engine.cut_out import cut_out, looks
from engine.picture import blend, resize
from engine.render import Pixels

RED, BLUE = (200, 20, 20), (40, 60, 220)


def drawn(background: tuple[int, int, int] = BLUE) -> Pixels:
    """A red thing in the middle whose outermost column is half background."""
    alpha = np.zeros((16, 16, 1))
    alpha[4:12, 4:12] = 1.0
    alpha[4:12, 12] = 0.5
    picture = alpha * RED + (1 - alpha) * background
    return np.concatenate([picture, alpha * 255], axis=2).round().astype(np.uint8)


def test_nothing_is_left_beneath_what_is_transparent() -> None:
    cut = cut_out(drawn())
    assert cut[0, 0].tolist() == [0, 0, 0, 0]
    assert not cut[cut[..., 3] == 0].any()


def test_a_thing_keeps_its_colours_and_its_edge_loses_the_background() -> None:
    cut = cut_out(drawn())
    assert cut[8, 8].tolist() == [*RED, 255]
    assert cut[8, 12, 3] == pytest.approx(128, abs=2)
    np.testing.assert_allclose(cut[8, 12, :3], RED, atol=3)


def test_a_thing_that_fills_the_picture_is_opaque() -> None:
    whole = np.full((16, 16, 4), 255, np.uint8)
    whole[..., :3] = RED
    np.testing.assert_array_equal(cut_out(whole), whole)


def test_faint_traces_are_no_picture() -> None:
    """A picture under an alpha that nothing shows would go out unseen."""
    hidden = np.random.default_rng(1).integers(0, 256, (16, 16, 4), np.uint8)
    hidden[..., 3] = 15
    assert not cut_out(hidden).any()


def test_screens_see_all_that_was_drawn_and_what_is_handed_out() -> None:
    beneath, shown = looks(drawn())
    np.testing.assert_array_equal(beneath, drawn()[..., :3])
    assert shown[0, 0].tolist() == [255, 255, 255]
    assert shown[8, 8].tolist() == [*RED]
    np.testing.assert_allclose(shown[8, 12], (np.array(RED) + 255) / 2, atol=3)


def test_of_a_picture_without_alpha_they_see_itself() -> None:
    opaque = np.ascontiguousarray(drawn()[..., :3])
    (seen,) = looks(opaque)
    assert seen is opaque


def test_enlarging_changes_no_colour_for_what_is_transparent() -> None:
    larger = resize(drawn(), 32, 32)
    assert larger.shape == (32, 32, 4)
    np.testing.assert_array_equal(
        larger[..., :3], resize(np.ascontiguousarray(drawn()[..., :3]), 32, 32)
    )
    assert cut_out(larger)[0, 0].tolist() == [0, 0, 0, 0]


def test_under_a_mask_the_alpha_is_that_of_what_was_drawn() -> None:
    canvas = np.zeros((16, 16, 4), np.uint8)
    canvas[:, :8] = (9, 9, 9, 255)
    blended = blend(drawn(), canvas)
    np.testing.assert_array_equal(blended[..., 3], drawn()[..., 3])
    assert (blended[:, :8, :3] == 9).all()
    np.testing.assert_array_equal(blended[:, 8:], drawn()[:, 8:])

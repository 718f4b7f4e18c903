"""The watermark: found after what happens to pictures, and nowhere else."""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

from engine.provenance.pattern import MarkKey, tile
from engine.provenance.watermark import (
    MOST_CHANGE,
    FoundMark,
    Picture,
    detect,
    mark,
    strongest,
    threshold,
)
from tests.stages.attacks import ATTACKS

KEY = MarkKey("k-2026", b"a secret of thirty-two bytes ...")
OTHER = MarkKey("k-2027", b"a secret of thirty-two bytes ...")
SIDE = 512


def flat() -> Picture:
    """Plain colours, white among them."""
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    pen = ImageDraw.Draw(picture)
    pen.ellipse((90, 90, 420, 420), fill=(250, 200, 40))
    pen.ellipse((180, 190, 220, 250), fill=(60, 30, 10))
    pen.ellipse((290, 190, 330, 250), fill=(60, 30, 10))
    pen.arc((180, 220, 330, 350), 20, 160, fill=(60, 30, 10), width=14)
    return np.asarray(picture)


def photograph() -> Picture:
    file = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    with Image.open(file) as whole:
        return np.asarray(whole.convert("RGB").crop((0, 40, SIDE, 40 + SIDE)))


PICTURES = {"flat": flat(), "photograph": photograph()}


def decibels(picture: Picture, changed: Picture) -> float:
    error = np.mean((picture.astype(float) - changed) ** 2)
    return 10 * math.log10(255**2 / error)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("kind", PICTURES)
def test_the_mark_is_found_after(kind: str, attack: str) -> None:
    marked = Image.fromarray(mark(PICTURES[kind], KEY))
    attacked = ATTACKS[attack](marked)
    found = detect(np.asarray(attacked), [OTHER, KEY])
    assert found is not None
    assert found.key_id == KEY.id
    if "crop" not in attack and "shot" not in attack:
        assert found.scale == pytest.approx(attacked.width / SIDE, rel=0.01)


@pytest.mark.parametrize("kind", PICTURES)
def test_the_mark_is_not_seen(kind: str) -> None:
    assert decibels(PICTURES[kind], mark(PICTURES[kind], KEY)) >= 42


@pytest.mark.parametrize("kind", PICTURES)
def test_neither_an_unmarked_picture_nor_another_keys_has_the_mark(kind: str) -> None:
    assert detect(PICTURES[kind], [KEY]) is None
    assert detect(mark(PICTURES[kind], OTHER), [KEY]) is None


def test_the_id_is_part_of_the_key() -> None:
    assert not np.array_equal(tile(KEY), tile(OTHER))
    assert np.array_equal(mark(flat(), KEY), mark(flat(), MarkKey(KEY.id, KEY.secret)))
    assert "thirty" not in repr(KEY)


def test_alpha_is_kept_and_what_is_transparent_is_seen_on_white() -> None:
    alpha = np.zeros((SIDE, SIDE, 1), np.uint8)
    alpha[40:480, 40:480] = 255
    picture = np.dstack([flat(), alpha])
    marked = mark(picture, KEY)
    assert np.array_equal(marked[..., 3:], alpha)
    seen = np.where(alpha == 255, marked[..., :3], 255).astype(np.uint8)
    for shown in (marked, seen):
        found = detect(shown, [KEY])
        assert isinstance(found, FoundMark)
        assert found.key_id == KEY.id


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (64, 64), (129, 257), (1200, 1100)])
def test_every_size_can_be_marked_and_searched(size: tuple[int, int]) -> None:
    width, height = size
    picture = np.asarray(Image.fromarray(photograph()).resize(size))
    marked = mark(picture, KEY)
    assert marked.shape == (height, width, 3)
    assert abs(marked.astype(int) - picture).max() <= MOST_CHANGE
    assert (detect(marked, [KEY]) is not None) == (min(size) > 128)


def test_a_picture_that_repeats_like_the_mark_is_not_taken_for_one() -> None:
    """Stripes, and another key's tile at many times the strength of a mark."""
    loud = np.clip(128 + 40 * np.tile(tile(OTHER), (4, 4)), 0, 255).astype(np.uint8)
    stripes = (np.indices((SIDE, SIDE)).sum(0) // 8 % 2 * 255).astype(np.uint8)
    for plane in (loud, stripes):
        picture = np.dstack([plane] * 3)
        keys = [MarkKey(str(number), b"secret") for number in range(4)]
        assert all(strongest(picture, key).score < threshold(1) for key in keys)


def test_more_keys_need_more_evidence() -> None:
    assert 8 < threshold(1) < threshold(2) < threshold(100) < 10
    assert detect(flat(), []) is None

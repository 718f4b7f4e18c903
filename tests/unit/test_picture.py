"""Files of pictures are read back with Pillow: size, format, and what compression does."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from io import BytesIO
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from engine.picture import OutputFormat, blend, encode, read_png, resize
from engine.render import Pixels


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    """A noisy gradient, 48 wide and 32 high."""
    y, x = np.mgrid[0:32, 0:48]
    noise = np.random.default_rng(0).integers(0, 40, (32, 48))
    return np.stack([x * 4 + noise, y * 6, 200 - x], axis=-1).astype(np.uint8)


def read(file: bytes) -> Image.Image:
    image = Image.open(BytesIO(file))
    image.load()
    return image


@pytest.mark.parametrize("output_format", get_args(OutputFormat))
def test_a_file_is_what_its_format_says(pixels: Pixels, output_format: OutputFormat) -> None:
    image = read(encode(pixels, output_format))
    assert (image.format, image.mode, image.size) == (output_format.upper(), "RGB", (48, 32))
    assert np.abs(np.asarray(image).astype(int) - pixels).mean() < 6


def test_png_needs_no_isal(pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal", None)
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    spec = spec_from_file_location("picture_without_isal", sys.modules[encode.__module__].__file__)
    assert spec is not None
    assert spec.loader is not None
    without = module_from_spec(spec)
    spec.loader.exec_module(without)
    assert without._deflate.__module__ == "zlib"
    assert (np.asarray(read(without.encode(pixels, "png"))) == pixels).all()


def test_png_is_lossless_whatever_the_compression(pixels: Pixels) -> None:
    assert (np.asarray(read(encode(pixels, "png", 0))) == pixels).all()


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
def test_less_quality_makes_a_smaller_file(pixels: Pixels, output_format: OutputFormat) -> None:
    small, large = (len(encode(pixels, output_format, quality)) for quality in (10, 95))
    assert small < large


def test_resizing_keeps_the_picture(pixels: Pixels) -> None:
    large = resize(pixels, 96, 64)
    assert (large.shape, large.dtype) == ((64, 96, 3), np.uint8)
    assert abs(large.mean() - pixels.mean()) < 1
    assert resize(pixels, 48, 32) is pixels


@pytest.mark.parametrize("compression", [-1, 101])
def test_compression_out_of_range_is_refused(pixels: Pixels, compression: int) -> None:
    with pytest.raises(ValueError, match="compression"):
        encode(pixels, "webp", compression)


def test_an_unknown_format_is_refused(pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="gif"):
        encode(pixels, "gif")  # type: ignore[arg-type]


def rgba(pixels: Pixels, alpha: int) -> Pixels:
    return np.dstack([pixels, np.full(pixels.shape[:2], alpha, np.uint8)])


@pytest.mark.parametrize("channels", [3, 4])
def test_a_png_of_ours_is_read_back_exactly(pixels: Pixels, channels: int) -> None:
    written = rgba(pixels, 7)[..., :channels]
    assert (read_png(encode(written, "png")) == written).all()


@pytest.mark.parametrize("mode", ["L", "P", "LA"])
def test_a_png_of_another_mode_is_refused(pixels: Pixels, mode: str) -> None:
    file = BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "PNG")
    with pytest.raises(ValueError, match=f"mode {mode} "):
        read_png(file.getvalue())


@pytest.mark.parametrize("data", [b"", b"GIF89a"])
def test_what_is_no_png_is_an_os_error(data: bytes) -> None:
    with pytest.raises(OSError, match="cannot identify"):
        read_png(data)


def test_a_canvas_keeps_its_pixels_where_it_is_opaque(pixels: Pixels) -> None:
    drawn = 255 - pixels
    assert (blend(drawn, rgba(pixels, 255)) == pixels).all()
    assert (blend(drawn, rgba(pixels, 0)) == drawn).all()
    mixed = blend(drawn, rgba(pixels, 128)).astype(int)
    assert np.abs(mixed - (pixels * 128.0 + drawn * 127.0) / 255).max() <= 0.5
    assert mixed.shape == pixels.shape


def test_a_canvas_of_another_size_is_refused(pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="canvas"):
        blend(pixels, rgba(pixels, 0)[1:])

"""An input picture on the canvas of an edit, with its mask and markup cut the same way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from engine.untrusted.budget import Budget, Refused
from engine.untrusted.decode import decode
from engine.untrusted.kinds import Size, kind_of

Box = tuple[float, float, float, float]
LEAST_EDGE, WIDEST = 64, 8
"""Of a picture that is looked at: what FLUX.2 takes."""
_WHOLE = [0] * 255 + [255]


@dataclass(frozen=True, slots=True)
class Placed:
    """canvas: RGBA, alpha 255 where the picture is kept. small: RGB, or with a mask RGBA, alpha 255
    where all of a pixel is kept, else 0. redraw: a byte a cell."""

    canvas: Image.Image
    small: Image.Image
    redraw: bytes | None


def place(
    files: dict[str, bytes], size: Size, small_size: Size, grid: Size, budget: Budget
) -> Placed:
    """files: image, and where there are any mask and markup. Refused, naming the file."""
    image = _image(files, budget)
    box = _centre(image.size, size)
    mask = _mask(files["mask"], image.size, budget) if "mask" in files else None
    canvas = image.resize(size, Image.Resampling.LANCZOS, box)
    if mask is None:
        keep, redraw = Image.new("L", size, 0), None
    else:  # means of whole pixels: what lies beside the mask keeps exactly 255
        keep = mask.resize(size, Image.Resampling.BOX, box)
        redraw = bytes(touched(keep, grid))
        if not any(redraw):
            reason = "the mask marks only what is cut off at the edge: nothing to edit is left"
            raise Refused("mask", "mask_empty", reason)
    small = canvas.resize(small_size, Image.Resampling.LANCZOS)
    if mask is not None:
        kept = mask.resize(small_size, Image.Resampling.BOX, box)
        small.putalpha(kept.point(_WHOLE))
    canvas.putalpha(keep)
    return Placed(canvas, small, redraw)


def reference(
    files: dict[str, bytes], most_pixels: int, budget: Budget
) -> tuple[Image.Image, Size]:
    """RGB with at most so many pixels, and the size that it came in. files: image, and where there
    is one markup. Refused, naming the file."""
    image = _image(files, budget)
    scale = min(1.0, math.sqrt(most_pixels / (image.width * image.height)))
    size = int(image.width * scale), int(image.height * scale)
    if min(size) < LEAST_EDGE or max(size) > WIDEST * min(size):
        reason = (
            f"the image has {image.width}x{image.height} pixels; one that is looked at has at "
            f"least {LEAST_EDGE} an edge, and one edge is at most {WIDEST} times the other"
        )
        raise Refused("image", "image_too_small", reason)
    small = image if scale == 1.0 else image.resize(size, Image.Resampling.LANCZOS)
    return small, image.size


def _image(files: dict[str, bytes], budget: Budget) -> Image.Image:
    """The picture on white, with its markup on it."""
    image = _on_white(decode(files["image"], "image", budget))
    if "markup" not in files:
        return image
    markup = _companion(files["markup"], "markup", image.size, budget)
    return _on_white(Image.alpha_composite(image.convert("RGBA"), markup))


def _mask(data: bytes, wanted: Size, budget: Budget) -> Image.Image:
    """Its alpha: 0 is to be edited."""
    alpha = _companion(data, "mask", wanted, budget).getchannel("A")
    if alpha.getextrema() == (255, 255):
        reason = (
            "the mask is opaque everywhere: nothing to edit; make what is to change transparent"
        )
        raise Refused("mask", "mask_empty", reason)
    return alpha


def _companion(data: bytes, field: str, wanted: Size, budget: Budget) -> Image.Image:
    """A mask or markup: an RGBA PNG of the picture's size."""
    if kind_of(data, field) != "PNG":
        raise Refused(field, f"{field}_not_png", f"the {field} must be a PNG with transparency")
    picture = decode(data, field, budget)
    if picture.size != wanted:
        sizes = [f"{width}x{height}" for width, height in (picture.size, wanted)]
        reason = (
            f"the {field} has {sizes[0]} pixels and the image {sizes[1]}; they must be the same"
        )
        raise Refused(field, f"{field}_size_mismatch", reason)
    if picture.mode != "RGBA":
        reason = f"the {field} has no alpha channel; send a PNG with transparency"
        raise Refused(field, f"{field}_without_alpha", reason)
    return picture


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB":
        return picture
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


def _centre(have: Size, wanted: Size) -> Box:
    """The largest part of a picture in its middle that has the shape of `wanted`."""
    scale = min(have[0] / wanted[0], have[1] / wanted[1])
    width, height = wanted[0] * scale, wanted[1] * scale
    left, top = (have[0] - width) / 2, (have[1] - height) / 2
    return left, top, left + width, top + height


def touched(keep: Image.Image, grid: Size) -> Iterator[bool]:
    """Cell by cell in rows: whether any pixel of it is to be edited."""
    columns, rows = grid
    for row in range(rows):
        for column in range(columns):
            left, right = keep.width * column // columns, -(-keep.width * (column + 1) // columns)
            top, bottom = keep.height * row // rows, -(-keep.height * (row + 1) // rows)
            yield keep.crop((left, top, right, bottom)).getextrema() != (255, 255)

"""What happens to pictures on their way: recompressed, resized, cut. Of Pillow pictures, RGB."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from PIL import Image

Attack = Callable[[Image.Image], Image.Image]


def jpeg(picture: Image.Image, quality: int = 75) -> Image.Image:
    """Saved and read again."""
    return _saved(picture, "JPEG", quality)


def webp(picture: Image.Image, quality: int = 80) -> Image.Image:
    """Saved and read again."""
    return _saved(picture, "WEBP", quality)


def resized(picture: Image.Image, scale: float) -> Image.Image:
    """As a viewer shows it."""
    size = round(picture.width * scale), round(picture.height * scale)
    return picture.resize(size, Image.Resampling.BICUBIC)


def cropped(picture: Image.Image, share: float = 0.1) -> Image.Image:
    """Without that share of its width and of its height, not evenly from both sides."""
    width, height = round(picture.width * (1 - share)), round(picture.height * (1 - share))
    left, top = int((picture.width - width) * 0.3), int((picture.height - height) * 0.7)
    return picture.crop((left, top, left + width, top + height))


def screenshot(picture: Image.Image, scale: float) -> Image.Image:
    """Shown at another size, a little of it outside of the window, saved as a good JPEG."""
    shown = cropped(picture, 0.04)
    size = round(shown.width * scale), round(shown.height * scale)
    return jpeg(shown.resize(size, Image.Resampling.BILINEAR), 90)


ATTACKS: dict[str, Attack] = {
    "jpeg q75": jpeg,
    "webp q80": webp,
    "half": lambda picture: resized(picture, 0.5),
    "double": lambda picture: resized(picture, 2.0),
    "crop 10%": cropped,
    "screenshot 0.7": lambda picture: screenshot(picture, 0.7),
    "screenshot 1.37": lambda picture: screenshot(picture, 1.37),
    "crop, full size": lambda picture: resized(cropped(picture), 1 / 0.9),
    "crop, jpeg": lambda picture: jpeg(cropped(picture)),
    "half, jpeg": lambda picture: jpeg(resized(picture, 0.5)),
    "double, jpeg": lambda picture: jpeg(resized(picture, 2.0)),
    "0.8, webp": lambda picture: webp(resized(picture, 0.8)),
    "crop, half, jpeg": lambda picture: jpeg(resized(cropped(picture), 0.5)),
}
HARDEST: dict[str, Attack] = {"half, webp": lambda picture: webp(resized(picture, 0.5))}
"""Plain colour loses most of the mark."""


def _saved(picture: Image.Image, kind: str, quality: int) -> Image.Image:
    file = BytesIO()
    picture.save(file, kind, quality=quality)
    with Image.open(BytesIO(file.getvalue())) as again:
        return again.convert("RGB")

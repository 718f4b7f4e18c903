"""Pictures that tests send."""

from __future__ import annotations

import io

from PIL import Image


def picture(size: tuple[int, int] = (64, 64), kind: str = "PNG", colour: str = "#3060c0") -> bytes:
    """A file of one colour with a white square in its upper left quarter."""
    image = Image.new("RGB", size, colour)
    image.paste("white", (0, 0, size[0] // 2, size[1] // 2))
    return _file(image, kind)


def mask(size: tuple[int, int] = (64, 64), box: tuple[int, int, int, int] | None = None) -> bytes:
    """An opaque PNG with a hole, the upper left quarter by default."""
    image = Image.new("RGBA", size, "black")
    image.paste((0, 0, 0, 0), box or (0, 0, size[0] // 2, size[1] // 2))
    return _file(image, "PNG")


def _file(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    image.save(out, kind)
    return out.getvalue()

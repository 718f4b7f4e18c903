"""A file to upright sRGB pixels without a past: header first, then the budget, then the pixels."""

from __future__ import annotations

from io import BytesIO

from PIL import (
    ExifTags,
    Image,
    ImageCms,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from engine.untrusted.budget import Budget, Refused
from engine.untrusted.kinds import Size, kind_of, webp_size

# Every plugin is loaded here: later the process can open no file. Budgets of pixels are our own.
PLUGINS = (JpegImagePlugin, MpoImagePlugin, PngImagePlugin, WebPImagePlugin)
Image.MAX_IMAGE_PIXELS = None

REASONS = (  # Pillow's words are for programmers
    ("runcated", "it ends too early"),
    ("MAX_TEXT", "its metadata unpacks to more than a picture needs"),
    ("UnidentifiedImage", "its header is broken"),
)
SRGB = ImageCms.createProfile("sRGB")
_COLOURS = {"RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, field: str, budget: Budget) -> Image.Image:
    """RGB, or RGBA where the file knows transparency; upright, sRGB, no metadata. Refused."""
    try:
        return _decode(data, field, budget)
    except Refused:
        raise
    except MemoryError:
        reason = f"the {field} takes too much memory to decode: make it smaller"
        raise Refused(field, "image_too_large", reason) from None
    except Exception as error:  # noqa: BLE001 - a decoder of hostile bytes raises anything
        said = f"{type(error).__name__} {error}"
        why = next((ours for theirs, ours in REASONS if theirs in said), "its data is broken")
        raise Refused(field, "broken_image", f"the {field} cannot be decoded: {why}") from None


def _decode(data: bytes, field: str, budget: Budget) -> Image.Image:
    picture = _open(data, field, budget)
    picture.load()
    turn = _orientation(picture)
    profile = picture.info.get("icc_profile")
    pixels = _srgb(_plain(picture), profile)
    if turn is not None:
        pixels = pixels.transpose(turn)
    pixels.info.clear()
    return pixels


def _open(data: bytes, field: str, budget: Budget) -> Image.Image:
    kind = kind_of(data, field)
    claimed = webp_size(data) if kind == "WEBP" else None
    if claimed is not None:  # libwebp makes room for the whole canvas when it opens a file
        _afford(claimed, field, budget)
    picture = Image.open(BytesIO(data), formats=[kind])
    if kind == "JPEG":
        _shrink(picture, budget)
    _afford(picture.size, field, budget)
    frames = 1 if kind == "JPEG" else getattr(picture, "n_frames", 1)
    if frames > budget.frames:  # a JPEG's further pictures are previews and depth maps
        reason = f"the {field} is animated ({frames} frames); send the one frame that you mean"
        raise Refused(field, "animated_image", reason)
    return picture


def _shrink(photo: Image.Image, budget: Budget) -> None:
    """A JPEG can be decoded at a part of its size, for a part of the memory."""
    width, height = photo.size
    if not budget.pixels < width * height <= budget.photo_pixels:
        return
    if max(width, height) <= budget.edge_pixels:
        part = next(n for n in (2, 4, 8) if -(-width // n) * -(-height // n) <= budget.pixels)
        photo.draft(None, (width // part, height // part))


def _afford(size: Size, field: str, budget: Budget) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise Refused(field, "broken_image", f"the {field} has no pixels ({width}x{height})")
    if max(size) > budget.edge_pixels or width * height > budget.pixels:
        reason = (
            f"the {field} has {width}x{height} pixels; at most {budget.edge_pixels} an edge and "
            f"{budget.pixels:,} together, {budget.photo_pixels:,} of a JPEG: make it smaller"
        )
        raise Refused(field, "image_too_large", reason)


def _orientation(picture: Image.Image) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - hostile metadata raises anything; it costs the turn alone
        return None


def _plain(picture: Image.Image) -> Image.Image:
    """RGB, RGBA or CMYK. Of 16 bits the upper eight; their single transparent grey is forgotten."""
    if picture.mode.startswith("I"):
        return picture.point(lambda value: value * (1 / 256), "L").convert("RGB")
    if picture.mode in ("RGB", "RGBA", "CMYK") and "transparency" not in picture.info:
        return picture
    return picture.convert("RGBA" if picture.has_transparency_data else "RGB")


def _srgb(pixels: Image.Image, profile: object) -> Image.Image:
    """Through the embedded profile where it fits and works; as if it were sRGB otherwise."""
    wanted = "RGBA" if pixels.mode == "RGBA" else "RGB"
    if isinstance(profile, bytes):
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if source.profile.xcolor_space == _COLOURS[pixels.mode]:
                turned = ImageCms.profileToProfile(pixels, source, SRGB, outputMode=wanted)
                if turned is not None:
                    return turned
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            pass  # a broken profile: the pixels are fine without it
    return pixels if pixels.mode == wanted else pixels.convert(wanted)

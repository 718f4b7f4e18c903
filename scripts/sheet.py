"""Pictures side by side for a person to look at: a labelled sheet, a strip. Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

PAPER, INK = (245, 242, 234), (28, 34, 32)
CELL, GAP, LABEL, TEXT = 320, 16, 34, 17


def contact_sheet(labelled: Sequence[tuple[str, Image.Image]], columns: int = 3) -> Image.Image:
    """Every picture in a square of its own, with its label below."""
    columns = min(columns, len(labelled))
    rows = -(-len(labelled) // columns)
    size = (GAP + columns * (CELL + GAP), GAP + rows * (CELL + LABEL + GAP))
    sheet = Image.new("RGB", size, PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT)
    for place, (label, picture) in enumerate(labelled):
        row, column = divmod(place, columns)
        x, y = GAP + column * (CELL + GAP), GAP + row * (CELL + LABEL + GAP)
        sheet.paste(picture.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS), (x, y))
        pen.text((x + CELL // 2, y + CELL + 6), _fitted(label, pen, font), INK, font, anchor="ma")
    return sheet


def strip(steps: Sequence[Image.Image]) -> Image.Image:
    """Pictures in a row, from blurry to clear."""
    sheet = Image.new("RGB", (GAP + len(steps) * (CELL + GAP), CELL + 2 * GAP), PAPER)
    for place, picture in enumerate(steps):
        square = picture.convert("RGB").resize((CELL, CELL), Image.Resampling.LANCZOS)
        sheet.paste(square, (GAP + place * (CELL + GAP), GAP))
    return sheet


def _fitted(label: str, pen: ImageDraw.ImageDraw, font: ImageFont.FreeTypeFont) -> str:
    """The label, cut where it would leave its cell."""
    fitted = label
    while pen.textlength(fitted, font) > CELL:
        fitted = fitted.removesuffix("…")[:-1] + "…"
    return fitted

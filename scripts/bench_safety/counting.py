"""What the bench counts, of what was written down during a run. Pure."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from engine.render import Pixels

PNG = re.compile(rb"iVBORw0KGgo[A-Za-z0-9+/=]+")
"""In base64, as events and answers in JSON carry it."""


@dataclass(frozen=True, slots=True)
class Abort:
    """A bad preview and the end of its render, on one clock, in seconds. ready: the preview is
    drawn. looked: how long the classifier took to answer. freed: the render's slot is free."""

    ready: float
    looked: float
    freed: float


def abort_passes(ends: Sequence[float], abort: Abort) -> tuple[float, float]:
    """Passes of the decoder from the preview to the free slot: beyond the classifier's time, and
    with it. ends: when each of its passes ended, in order; of a pass that is not over, the share
    of its time that has gone by counts."""
    at = abort.ready, abort.ready + abort.looked, abort.freed
    ready, answered, freed = np.interp(at, ends, np.arange(len(ends))).tolist()
    return freed - answered, freed - ready


def passes_saved(in_flight: Mapping[int, int], at_end: Mapping[int, int]) -> float:
    """The share of the passes that renders are spared by screening in flight. in_flight: how many
    each blocked render did with it, by seed; at_end: the same orders, screened only at the end."""
    spent = sum(in_flight.values())
    return 1 - spent / sum(at_end[seed] for seed in in_flight)


def digest(pixels: Pixels) -> str:
    """As the audit log names pixels: RGB, row by row."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def pictures_in(content_type: str, body: bytes) -> list[bytes]:
    """Every PNG in an answer: the file itself, or base64 in JSON and events. A stream that broke
    off ends in a piece of a line, which is none."""
    if content_type.startswith("image/"):
        return [body]
    lines = body.splitlines(keepends=True)
    whole = [line for line in lines if "event-stream" not in content_type or line.endswith(b"\n")]
    return [base64.b64decode(found) for line in whole for found in PNG.findall(line)]


def unscreened_bytes(files: Iterable[bytes], allowed: Collection[str]) -> int:
    """Bytes of the pictures whose pixels nothing has allowed. allowed: digests of the pixels with
    an allowing verdict."""
    return sum(len(file) for file in files if _digest_of_file(file) not in allowed)


def _digest_of_file(file: bytes) -> str:
    with Image.open(io.BytesIO(file)) as picture:
        return digest(np.asarray(picture.convert("RGB")))

"""Wishes that change a picture. What they go on from follows from their seed, so that the auditor
can draw them again when it is long gone."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np

from engine.decoders.paced import CELLS, PacedDecoder
from engine.picture import encode
from engine.region import edit_passes, scattered, to_hex
from engine.render import Pixels, Source
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.files import INPUT, StoredFile, input_key, new_file_id
from jobs.request import ImageRequest, SourceImage
from scripts.chaos.poison import kind_of, marked

LIFE_SECONDS = 86_400.0


def brought(seed: int) -> tuple[Pixels, Source]:
    """The canvas [height, width, 4] that comes with that seed, and what is drawn of it."""
    draw = np.random.default_rng(seed)
    width, height = PacedDecoder.picture_size
    canvas = draw.integers(0, 256, (height, width, 4), np.uint8)
    redraw = scattered(CELLS, draw.uniform(0.1, 0.9), seed)
    return canvas, Source(np.ascontiguousarray(canvas[..., :3]), redraw)


async def bring(ledger: AsyncLedger, blobs: DirectoryBlobs, request: ImageRequest) -> ImageRequest:
    """As a gateway does: the row, its blobs, then the request that names them. Raises
    LedgerUnavailable, OSError."""
    canvas, source = brought(request.seed)
    file_id = new_file_id()
    keys = input_key(file_id, "canvas"), input_key(file_id, "small")
    height, width, _ = canvas.shape
    await ledger.add_file(
        StoredFile(
            id=file_id, tenant=request.tenant, purpose=INPUT, filename="", bytes=0, width=width,
            height=height, blobs=keys, created_at=0.0, expires_at=LIFE_SECONDS,
        )
    )  # fmt: skip
    small = marked(source.pixels, kind_of(request.prompt, "before"))
    for key, pixels in zip(keys, (canvas, small), strict=True):
        await asyncio.to_thread(blobs.put, key, encode(pixels, "png"))
    named = SourceImage(canvas=keys[0], small=keys[1], redraw=to_hex(source.redraw))
    passes = edit_passes(request.passes, int(source.redraw.sum()), CELLS)
    return replace(request, source=named, passes=passes)

"""Pixels are worked on in processes that can be killed; stores that hang are away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from dispatch.ports import CallFailed, StageUnavailable
from dispatch.postprocess import InProcesses, InThreads, LocalPostprocessor
from dispatch.stage_worker import StageWorker
from engine.capabilities import DEFAULT_WEIGHTS
from engine.decoders.paced import CELLS
from engine.picture import encode
from engine.postprocessing import Postprocessing, Unusable
from engine.provenance.manifest import Made
from engine.worker import CallLimits
from jobs.blobs.store import DirectoryBlobs
from jobs.request import ImageRequest
from tests.dispatch.postprocessing_target import HANGS, KILLS
from tests.stages.ledger_kit import wish

REQUEST = wish(width=48, height=32)


def picture(first: int) -> np.ndarray:
    pixels = np.full((16, 16, 3), 200, np.uint8)
    pixels[0, 0, 0] = first
    return pixels


@pytest.fixture
async def processes() -> AsyncIterator[InProcesses]:
    build = "tests.dispatch.postprocessing_target:Brittle"
    worker = await StageWorker.start(build, {"cells": CELLS}, CallLimits(cpu_seconds=1))
    made = InProcesses([worker])
    yield made
    await asyncio.to_thread(made.close)


@pytest.mark.parametrize("poison", [KILLS, HANGS])
async def test_a_picture_that_ends_or_hangs_its_process_fails_alone(
    tmp_path: Path, processes: InProcesses, poison: int
) -> None:
    postprocessor = LocalPostprocessor(DirectoryBlobs(tmp_path), processes)
    bad = asyncio.create_task(postprocessor.encode(picture(poison), REQUEST))
    good = [asyncio.create_task(postprocessor.encode(picture(n), REQUEST)) for n in (1, 2)]
    with pytest.raises(CallFailed, match="encode"):
        await bad
    in_threads = LocalPostprocessor(DirectoryBlobs(tmp_path), InThreads(1, CELLS))
    for number, file in zip((1, 2), good, strict=True):
        assert await file == await in_threads.encode(picture(number), REQUEST)
    processes.check()


async def test_sources_and_edits_come_back_whole_from_the_process(processes: InProcesses) -> None:
    small, canvas = picture(7), np.full((32, 48, 4), 9, np.uint8)
    redraw = "00" * (CELLS // 8)
    source = await processes.call("source", encode(small, "png"), redraw, b"tokens", 0.5)
    assert np.array_equal(source.pixels, small)
    assert (source.redraw.sum(), source.tokens) == (0, b"tokens")
    assert (source.mask, source.strength) == (None, 0.5)
    alpha = np.full((*small.shape[:2], 1), 255, np.uint8)
    alpha[:3, :5], alpha[4, 4] = 0, 254
    masked = encode(np.dstack([small, alpha]), "png")
    source = await processes.call("source", masked, redraw, None, 1.0)
    assert np.array_equal(source.pixels, small)
    assert np.array_equal(source.mask, np.where(alpha[..., 0] == 255, 0, 255))
    assert np.array_equal(await processes.call("reference", encode(small, "png")), small)
    assert isinstance(await processes.call("reference", b"no png"), Unusable)
    canvas[..., 3] = 255
    blended = await processes.call("blend", picture(1), 48, 32, encode(canvas, "png"))
    assert np.array_equal(blended, canvas[..., :3])
    assert isinstance(await processes.call("source", b"no png", redraw, None, 1.0), Unusable)


async def test_pictures_are_enlarged_in_the_process() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    how = pixels, (256, 512), "png", 100, Made("m", datetime(2026, 1, 1, tzinfo=UTC))
    work = await InProcesses.start(1, CELLS, enlarger=DEFAULT_WEIGHTS)
    try:
        file = await work.call("encode", *how)
    finally:
        await asyncio.to_thread(work.close)
    assert file == Postprocessing(CELLS, enlarger=DEFAULT_WEIGHTS).encode(*how)
    assert file != Postprocessing(CELLS).encode(*how)


class Silent(DirectoryBlobs):
    """A store that answers when it is told to."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.answers = threading.Event()

    def put(self, key: str, data: bytes, *, durable: bool = True) -> None:
        """See BlobStore."""
        self.answers.wait()


async def test_a_store_that_is_silent_is_away(tmp_path: Path) -> None:
    store = Silent(tmp_path)
    postprocessor = LocalPostprocessor(store, InThreads(1, CELLS), store_seconds=0.05)
    request: ImageRequest = REQUEST
    file = await postprocessor.encode(picture(1), request)
    with pytest.raises(StageUnavailable, match="blob store"):
        await postprocessor.put("images/a.png", file, durable=True)
    store.answers.set()

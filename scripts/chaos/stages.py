"""A dispatcher as a process of its own without Ray, and the stages beside the decoders that live in
it: an encoder, screens whose verdicts follow from what they see, and postprocessing. Poison breaks
them."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import numpy as np

from dispatch.dispatcher import Dispatcher
from dispatch.postprocess import InThreads, LocalPostprocessor
from dispatch.settings import DispatchSettings, Stages
from engine.decoders.paced import CELLS, PacedDecoder
from engine.picture import blend, encode, resize
from engine.policy import Look
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.render import Conditioning, Pixels, RenderSpec, Source
from engine.verdict import Verdict
from jobs.blobs.store import DirectoryBlobs
from jobs.client.async_ledger import AsyncLedger
from jobs.request import ImageRequest
from scripts.chaos.decoding import SocketDecoders
from scripts.chaos.edits import brought
from scripts.chaos.poison import Process, kind_of, mark_of
from scripts.chaos.world import ATTEMPTS, CALL_SECONDS, LANE, World

OF_PICTURES = 29
"""One picture of so many is found bad, always the same ones."""


def conditioning_of(prompt: str) -> Conditioning:
    """A prompt as a decoder reads it: its letters, as numbers."""
    pooled = np.zeros(384, np.float16)
    letters = np.frombuffer(prompt.encode()[:384], np.uint8)
    pooled[: letters.size] = letters
    return Conditioning.from_numpy(prompt, pooled=pooled)


def is_bad(pixels: Any) -> bool:
    """The verdict on a picture."""
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).digest()
    return int.from_bytes(digest[:4], "little") % OF_PICTURES == 0


def file_of(request: ImageRequest, index: int) -> bytes:
    """What an undisturbed decoder makes of this image."""
    decoder = PacedDecoder(sleep=lambda _: None)
    canvas, source = (None, None) if request.source is None else brought(request.seed)
    render = decoder.begin(
        RenderSpec(
            "alone", conditioning_of(request.prompt), request.image_seed(index), request.passes,
            request.guidance, source=source,
        ),
        None,
    )  # fmt: skip
    for _ in range(request.passes):
        decoder.step([render])
    pixels = resize(decoder.finish(render), request.width, request.height)
    exact = pixels if canvas is None else blend(pixels, canvas)
    return encode(exact, request.output_format)


class Prompts:
    """See dispatch.ports.Encoder."""

    def __init__(self) -> None:
        self._process = Process()

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        await self._process.work(words.prompt, kind_of(words.prompt, "encoder"))
        return EncodedPrompt(conditioning_of(words.prompt), np.zeros((1, 384), np.float16))


class Verdicts:
    """See dispatch.ports.Classifier: prompts with a bomb and one picture of so many are bad."""

    def __init__(self) -> None:
        self._process = Process()

    async def screen_prompt(self, words: PromptText, embeddings: object, look: Look) -> Verdict:
        """See Classifier."""
        await self._process.work(words.prompt, kind_of(words.prompt, "prompt"))
        bad = any("bomb" in text for text in words.texts)
        return Verdict(bad, ("weapons",) if bad else ())

    async def screen_image(self, pixels: object, look: Look) -> Verdict:
        """See Classifier."""
        await self._process.work("", mark_of(pixels))
        bad = is_bad(pixels)
        return Verdict(bad, ("weapons",) if bad else ())


class Postprocessor(LocalPostprocessor):
    """See dispatch.ports.Postprocessor."""

    def __init__(self, blobs: DirectoryBlobs) -> None:
        super().__init__(blobs, InThreads(2, CELLS))
        self._process = Process()

    async def source(self, request: ImageRequest) -> Source:
        """See Postprocessor."""
        await self._process.work(request.prompt, kind_of(request.prompt, "source"))
        return await super().source(request)

    async def blend(self, pixels: object, request: ImageRequest) -> Pixels:
        """See Postprocessor."""
        await self._process.work(request.prompt, kind_of(request.prompt, "blend"))
        return await super().blend(pixels, request)

    async def encode(
        self, pixels: object, request: ImageRequest, *, preview: bool = False
    ) -> bytes:
        """See Postprocessor."""
        await self._process.work(request.prompt, kind_of(request.prompt, "file"))
        return await super().encode(pixels, request, preview=preview)


def dispatch(world: World, worker: str) -> None:
    """One dispatcher over its own ledger client, until it is killed."""
    world.speak()
    asyncio.run(_run(world, worker))


async def _run(world: World, worker: str) -> None:
    ledger = AsyncLedger(await asyncio.to_thread(world.ledger))
    stages = Stages(
        encoder=Prompts(),
        classifier=Verdicts(),
        decoders=SocketDecoders(world.sockets, world.slots),
        postprocessor=Postprocessor(DirectoryBlobs(world.blobs)),
    )
    settings = DispatchSettings(
        LANE,
        lease_seconds=world.lease_seconds,
        heartbeat_seconds=world.heartbeat_seconds,
        ready=4,
        attempts=ATTEMPTS,
        retry_seconds=0.2,
        call_timeout_seconds=CALL_SECONDS,
        slow_seconds=0.2,
    )
    await Dispatcher(ledger, stages, settings, worker).run()

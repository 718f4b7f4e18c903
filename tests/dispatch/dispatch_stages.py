"""The stages of the dispatcher's suite: real engines of the paced family behind the decoder port,
whose passes can be held, and stand-ins for those that must give a verdict or be away."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dispatch.identity import LOCAL_DAYS, NO_IDENTITY, Identity, IdentityFiles, read_identity
from dispatch.in_process import InProcessDecoders, InProcessReplica
from dispatch.ports import StageUnavailable
from dispatch.postprocess import InThreads, LocalPostprocessor
from engine.capabilities import Capabilities
from engine.decoder import Decoder, DecodeState, OutOfMemory, Plan
from engine.decoders.paced import CELLS, PacedDecoder, PacedState
from engine.picture import encode, resize
from engine.policy import Look
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.render import Checkpoint, Conditioning, Pixels, RenderSpec, RenderUpdate, Source
from engine.scene import SceneCodes
from engine.verdict import Verdict
from jobs.blobs.store import BlobStore
from jobs.request import ImageRequest
from tests.golden.decoder_contract import CONCEPTS
from tests.stages.ledger_kit import PATIENCE_SECONDS


async def until(met: Callable[[], Any], what: str) -> Any:
    """Wait for a condition; `what` says which one never came true."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                result = met()
                if asyncio.iscoroutine(result):
                    result = await result
                if result:
                    return result
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


def _anew(error: BaseException) -> BaseException:
    """The same error without a traceback that keeps alive what it has seen."""
    return type(error)(*error.args)


def conditioning_of(prompt: str) -> Conditioning:
    """A prompt as decoders read it: its letters as numbers, and a thing."""
    pooled = np.zeros(384, np.float16)
    letters = np.frombuffer(prompt.encode()[:384], np.uint8)
    pooled[: letters.size] = letters
    scene = SceneCodes(((len(prompt) % CONCEPTS, -1, 1),))
    return Conditioning.from_numpy(prompt, pooled=pooled, **scene.arrays())


def drawn(
    request: ImageRequest,
    index: int,
    passes: int | None = None,
    source: Source | None = None,
    decoder: Decoder | None = None,
) -> Pixels:
    """The picture as an undisturbed decoder draws it, or its preview after that many passes."""
    decoder = decoder or PacedDecoder(sleep=lambda _: None)
    render = decoder.begin(replace(_spec_of(request, index), source=source), None)
    for _ in range(passes or request.passes):
        decoder.step([render])
    return decoder.preview(render) if passes else decoder.finish(render)


def file_of(request: ImageRequest, index: int) -> bytes:
    """The file that the undisturbed picture ends as."""
    return _pressed(drawn(request, index), request)


def _spec_of(request: ImageRequest, index: int) -> RenderSpec:
    seed = request.image_seed(index)
    prompt = conditioning_of(request.prompt)
    return RenderSpec("alone", prompt, seed, request.passes, request.guidance)


def _pressed(pixels: Any, request: ImageRequest) -> bytes:
    return encode(resize(pixels, request.width, request.height), request.output_format)


class Gate:
    """Passes go through while it is open."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.close = self._open.clear
        self.open = self._open.set

    @property
    def closed(self) -> bool:
        return not self._open.is_set()

    def sleep(self, _: float) -> None:
        """What a pass does instead of taking time."""
        self._open.wait()


class BrittleDecoder(PacedDecoder):
    """Raises in every pass of the seeds in `broken`, and has memory for `fits` renders. `drawn`,
    `told`: how often each (seed, pass) was, and was reported. `close_after`: the (seed, pass) whose
    report closes the gate, before another pass can end. `ballast`: makes every checkpoint so much
    larger. `pictures_alive`: final pictures that are still held."""

    def __init__(self, gate: Gate) -> None:
        super().__init__(sleep=gate.sleep)
        self._gate = gate
        self.broken: set[int] = set()
        self.fits = 99
        self.ballast = b""
        self.checkpoint_seconds = 0.0
        self.drawn: Counter[tuple[int, int]] = Counter()
        self.told: Counter[tuple[int, int]] = Counter()
        self.close_after: set[tuple[int, int]] = set()
        self.pictures_alive = 0

    def step(self, batch: Sequence[DecodeState]) -> None:
        if any(render.spec.seed in self.broken for render in batch):
            raise ArithmeticError("the pass broke")
        if len(batch) > self.fits:
            raise OutOfMemory("128x128 fits")
        super().step(batch)
        passes = {(render.spec.seed, render.pass_no) for render in batch}
        self.drawn.update(passes)
        if passes & self.close_after:
            self._gate.close()

    def plan(self, spec: RenderSpec) -> Plan:
        return replace(super().plan(spec), checkpoint_seconds=self.checkpoint_seconds)

    def begin(self, spec: RenderSpec, checkpoint: Checkpoint | None) -> PacedState:
        if checkpoint is not None:
            state = checkpoint.state.removesuffix(self.ballast)
            checkpoint = replace(checkpoint, state=state)
        return super().begin(spec, checkpoint)

    def checkpoint(self, render: DecodeState) -> Checkpoint:
        """The engine asks for it in order to report the pass."""
        self.told[render.spec.seed, render.pass_no] += 1
        taken = super().checkpoint(render)
        return replace(taken, state=taken.state + self.ballast)

    def finish(self, render: DecodeState) -> Pixels:
        pixels = super().finish(render)
        self.pictures_alive += 1
        weakref.finalize(pixels, self._picture_gone)
        return pixels

    def _picture_gone(self) -> None:
        self.pictures_alive -= 1


class Replica(InProcessReplica):
    """One engine. `silent_seconds`: between two updates, after which it is given up."""

    def __init__(
        self,
        slots: int,
        reservations: int | None = None,
        family: Decoder | None = None,
        full_wait_seconds: float = 0.0,
    ) -> None:
        self.gate = Gate()
        self.decoder = BrittleDecoder(self.gate)
        self.told, self.close_after = self.decoder.told, self.decoder.close_after
        self.ids: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.lost: BaseException | None = None
        self.silent_seconds: float | None = None
        family = family or self.decoder
        super().__init__(family, slots, reservations, full_wait_seconds=full_wait_seconds)

    @property
    def available(self) -> bool:
        return self.lost is None and super().available

    def lose(self, how: BaseException | None = None) -> None:
        """The process is gone: every stream breaks, nothing starts here any more."""
        self.lost = how or StageUnavailable("the replica is gone")
        self.end()

    async def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """See Slot."""
        if self.lost is not None:
            raise _anew(self.lost)
        self.ids.append(spec.render_id)
        async with aclosing(super().render(spec)) as updates:
            while (update := await self._next(updates)) is not None:
                self.kinds[update.kind] += 1
                yield update
        if self.lost is not None:
            raise _anew(self.lost)

    async def _next(self, updates: AsyncGenerator[RenderUpdate, None]) -> RenderUpdate | None:
        try:
            async with asyncio.timeout(self.silent_seconds):
                return await anext(updates, None)
        except TimeoutError:
            raise StageUnavailable("the replica is silent") from None

    def stop(self) -> None:
        """End the engine's threads."""
        self.gate.open()
        self.engine.stop()


class Lane(InProcessDecoders[Replica]):
    """The decoders. `taken`: reservations ever made. `leaving`: renders that were asked to leave.
    `deaf`: such a request reaches no replica."""

    def __init__(self, *replicas: Replica) -> None:
        super().__init__(*replicas)
        self.taken = 0
        self.leaving: list[str] = []
        self.deaf = False

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[Replica]:
        """See Decoders."""
        async with super().reserve() as replica:
            self.taken += 1
            yield replica

    async def leave(self, render_ids: Sequence[str]) -> None:
        """See Decoders."""
        if self.deaf:
            raise StageUnavailable("no replica hears it")
        await super().leave(render_ids)
        self.leaving += render_ids

    @property
    def pictures_alive(self) -> int:
        """Final pictures that are still held."""
        gc.collect()
        return sum(replica.decoder.pictures_alive for replica in self.replicas)


@dataclass
class Prompts:
    """The encoder. `away`: it does not answer. `breaks`: it raises."""

    away: bool = False
    breaks: bool = False

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        if self.breaks:
            raise ArithmeticError("the encoder broke")
        if self.away:
            raise StageUnavailable("no encoder")
        return EncodedPrompt(conditioning_of(words.prompt), np.zeros((1, 384), np.float16))


@dataclass
class Verdicts:
    """The classifier: blocks prompts with a bomb, and the pictures in `bad`, and flags those in
    `flagged`. `looks`: at which pictures it was asked to look. `away`: raised instead
    of a verdict on a picture. `answers`: verdicts on pictures wait until it is set; if there are
    `late` ones, on those alone."""

    bad: list[Pixels] = field(default_factory=list)
    late: list[Pixels] = field(default_factory=list)
    away: BaseException | None = None
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    flagged: list[Pixels] = field(default_factory=list)
    asked: int = 0
    looks: list[Look] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.answers.set()

    async def screen_prompt(self, words: PromptText, embeddings: object, look: Look) -> Verdict:
        """See Classifier."""
        bad = any("bomb" in text for text in words.texts)
        return Verdict(bad, ("weapons",) if bad else ())

    async def screen_image(self, pixels: Any, look: Look) -> Verdict:
        """See Classifier."""
        self.asked += 1
        self.looks.append(look)
        if not self.late or any(np.array_equal(pixels, late) for late in self.late):
            await self.answers.wait()
        if self.away is not None:
            raise _anew(self.away)
        blocked = any(np.array_equal(pixels, bad) for bad in self.bad)
        flagged = any(np.array_equal(pixels, odd) for odd in self.flagged)
        return Verdict(
            blocked, ("weapons",) if blocked else (), flagged=("sexual",) if flagged else ()
        )


class Files(LocalPostprocessor):
    """The postprocessor. `away`: nothing can be stored, nor any source be read. `encoded`,
    `stored`: files. `asked`: for a source."""

    def __init__(
        self,
        blobs: BlobStore,
        cells: int = CELLS,
        identity: Identity = NO_IDENTITY,
        can: Capabilities | None = None,
    ) -> None:
        super().__init__(blobs, InThreads(2, cells, identity), can)
        self.away = False
        self.encoded = 0
        self.stored = 0
        self.asked = 0

    async def encode(
        self, pixels: Pixels, request: ImageRequest, *, preview: bool = False
    ) -> bytes:
        """See Postprocessor."""
        file = await super().encode(pixels, request, preview=preview)
        self.encoded += 1
        return file

    async def source(self, request: ImageRequest) -> Source:
        """See Postprocessor."""
        self.asked += 1
        if self.away:
            raise StageUnavailable("no store")
        return await super().source(request)

    async def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """See Postprocessor."""
        if self.away:
            raise StageUnavailable("no store")
        await super().put(key, data, durable=durable)
        self.stored += durable

    async def get(self, key: str) -> bytes | None:
        """See Postprocessor."""
        if self.away:
            raise StageUnavailable("no store")
        return await super().get(key)


def expired_identity(directory: Path) -> Identity:
    """What signed until a year ago."""
    then = datetime.now(UTC) - timedelta(days=LOCAL_DAYS + 365)
    return read_identity(IdentityFiles(True, True, str(directory)), then)

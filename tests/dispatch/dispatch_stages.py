"""The stages of the dispatcher's suite: real engines of the paced family behind the decoder port,
whose passes can be held, and stand-ins for those that must give a verdict or be away."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dispatch.ports import StageUnavailable
from dispatch.postprocess import InThreads, LocalPostprocessor
from engine.decoder import Decoder, Render
from engine.decoders.paced import CELLS, PacedDecoder
from engine.engine import DecoderEngine
from engine.picture import encode, resize
from engine.render import Conditioning, Pixels, RenderSpec, RenderUpdate, Source
from engine.verdict import Verdict
from jobs.blobs.store import DirectoryBlobs
from jobs.request import ImageRequest
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
    """A prompt as a decoder reads it: its letters, as numbers."""
    pooled = np.zeros(384, np.float16)
    letters = np.frombuffer(prompt.encode()[:384], np.uint8)
    pooled[: letters.size] = letters
    return Conditioning(pooled[None], pooled)


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
    """Raises in every pass of the seeds in `broken`. `drawn`: how often each (seed, pass) was."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        super().__init__(sleep=sleep)
        self.broken: set[int] = set()
        self.drawn: Counter[tuple[int, int]] = Counter()

    def step(self, batch: Sequence[Render]) -> None:
        if any(render.spec.seed in self.broken for render in batch):
            raise ArithmeticError("the pass broke")
        super().step(batch)
        self.drawn.update((render.spec.seed, render.pass_no) for render in batch)


class Replica:
    """One engine. `told`: how often each (seed, pass) was reported. `close_after`: the (seed, pass)
    whose report closes the gate, before another pass can end. `pictures_alive`: final pictures
    that a dispatcher holds. `silent_seconds`: between two updates, after which it is given up."""

    def __init__(
        self, slots: int, reservations: int | None = None, family: Decoder | None = None
    ) -> None:
        self.gate = Gate()
        self.replica_id = str(id(self))
        self.decoder = BrittleDecoder(self.gate.sleep)
        self.engine = DecoderEngine(family or self.decoder, slots, self._emit)
        self.reservations = reservations or slots
        self.reserved = 0
        self.told: Counter[tuple[int, int]] = Counter()
        self.ids: list[str] = []
        self.kinds: Counter[str] = Counter()
        self.close_after: set[tuple[int, int]] = set()
        self.lost: BaseException | None = None
        self.silent_seconds: float | None = None
        self.pictures_alive = 0
        self._loop = asyncio.get_running_loop()
        self._seeds: dict[str, int] = {}
        self._streams: dict[str, asyncio.Queue[RenderUpdate | None]] = {}
        self.engine.start()

    @property
    def streams(self) -> int:
        """Renders whose updates a dispatcher takes; the engine has been told of the others."""
        return len(self._streams)

    def lose(self, how: BaseException | None = None) -> None:
        """The process is gone: every stream breaks, nothing starts here any more."""
        self.lost = how or StageUnavailable("the replica is gone")
        for stream in self._streams.values():
            stream.put_nowait(None)

    async def render(self, order: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """See Slot."""
        if self.lost is not None:
            raise _anew(self.lost)
        stream = self._streams[order.render_id] = asyncio.Queue()
        self._seeds[order.render_id] = order.seed
        self.ids.append(order.render_id)
        try:
            self.engine.add(RenderSpec(**{n: getattr(order, n) for n in RenderSpec.__slots__}))
            while (update := await self._next(stream)) is not None:
                self.kinds[update.kind] += 1
                yield update
            raise _anew(self.lost or AssertionError("a stream ended for no reason"))
        finally:
            del self._streams[order.render_id]
            self.engine.abort(order.render_id)

    async def _next(self, stream: asyncio.Queue[RenderUpdate | None]) -> RenderUpdate | None:
        try:
            return await asyncio.wait_for(stream.get(), self.silent_seconds)
        except TimeoutError:
            raise StageUnavailable("the replica is silent") from None

    def close(self) -> None:
        """End the engine's threads."""
        self.gate.open()
        self.engine.stop()

    def _emit(self, update: RenderUpdate) -> None:
        """On the engine's thread, before its next pass."""
        seed = self._seeds[update.render_id]
        if update.kind in ("pass", "left"):
            self.told[seed, update.pass_no] += 1
            if (seed, update.pass_no) in self.close_after:
                self.gate.close()
        if update.pixels is not None:
            self.pictures_alive += 1
            weakref.finalize(update.pixels, self._picture_gone)
        with suppress(RuntimeError):  # the loop has ended: so has everybody who listened
            self._loop.call_soon_threadsafe(self._deliver, update)

    def _picture_gone(self) -> None:
        self.pictures_alive -= 1

    def _deliver(self, update: RenderUpdate) -> None:
        if (stream := self._streams.get(update.render_id)) is not None:
            stream.put_nowait(update)


class Lane:
    """The decoder port over some replicas. `taken`: reservations ever made. `leaving`: renders that
    were asked to leave. `deaf`: such a request reaches nobody."""

    def __init__(self, *replicas: Replica) -> None:
        self.replicas = list(replicas)
        self.taken = 0
        self.leaving: list[str] = []
        self.deaf = False
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def reserve(self) -> AsyncIterator[Replica]:
        """See Decoders."""
        async with self._changed:
            await self._changed.wait_for(self._free)
            replica = self._free()[0]
            replica.reserved += 1
            self.taken += 1
        try:
            yield replica
        finally:
            async with self._changed:
                replica.reserved -= 1
                self._changed.notify_all()

    async def leave(self, render_ids: Sequence[str]) -> None:
        """See Decoders."""
        if self.deaf:
            raise StageUnavailable("nobody hears it")
        for replica in self.replicas:
            for render_id in render_ids:
                replica.engine.leave(render_id)
        self.leaving += render_ids

    async def add(self, replica: Replica) -> None:
        """One more replica."""
        async with self._changed:
            self.replicas.append(replica)
            self._changed.notify_all()

    def _free(self) -> list[Replica]:
        return [r for r in self.replicas if r.reserved < r.reservations and r.lost is None]

    @property
    def pictures_alive(self) -> int:
        """Final pictures that anybody still holds."""
        gc.collect()
        return sum(replica.pictures_alive for replica in self.replicas)


@dataclass
class Prompts:
    """The encoder. `away`: nobody answers. `breaks`: it raises."""

    away: bool = False
    breaks: bool = False

    async def encode(self, prompt: str) -> Conditioning:
        """See Encoder."""
        if self.breaks:
            raise ArithmeticError("the encoder broke")
        if self.away:
            raise StageUnavailable("no encoder")
        return conditioning_of(prompt)


@dataclass
class Verdicts:
    """The classifier: blocks prompts with a bomb, and the pictures in `bad`. `away`: raised instead
    of a verdict on a picture. `answers`: verdicts on pictures wait until it is set."""

    bad: list[Pixels] = field(default_factory=list)
    away: BaseException | None = None
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    def __post_init__(self) -> None:
        self.answers.set()

    async def screen_prompt(self, prompt: str, conditioning: object) -> Verdict:
        """See Classifier."""
        return Verdict("bomb" in prompt, ("weapons",) if "bomb" in prompt else ())

    async def screen_image(self, pixels: Any, moderation: str) -> Verdict:
        """See Classifier."""
        self.asked += 1
        await self.answers.wait()
        if self.away is not None:
            raise _anew(self.away)
        blocked = any(np.array_equal(pixels, bad) for bad in self.bad)
        return Verdict(blocked, ("weapons",) if blocked else ())


class Files(LocalPostprocessor):
    """The postprocessor. `away`: nothing can be stored, nor any source be read. `stored`: files.
    `asked`: for a source."""

    def __init__(self, blobs: DirectoryBlobs, cells: int = CELLS) -> None:
        super().__init__(blobs, InThreads(2, cells))
        self.away = False
        self.stored = 0
        self.asked = 0

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

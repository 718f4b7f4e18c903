"""A lane whose stages are processes that one job can break: each dies with all the calls that it
has in hand, and comes back. What a job breaks, and how, is written in its prompt."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.decoder import DecodeState
from engine.decoders.paced import CELLS, PacedDecoder
from engine.picture import encode, resize
from engine.policy import Look
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.region import edit_passes, to_hex
from engine.render import Pixels, RenderSpec, RenderUpdate, Source
from engine.verdict import Verdict
from jobs.blobs.store import DirectoryBlobs
from jobs.files import INPUT, input_key
from jobs.job import Job
from jobs.request import ImageRequest, SourceImage
from scripts.chaos.poison import Process, kind_of
from tests.dispatch.dispatch_kit import World
from tests.dispatch.dispatch_stages import Files, Prompts, Replica, Verdicts, drawn
from tests.stages.ledger_kit import upload

SIZE = 64
SILENT_SECONDS = 0.8
STAGES = {
    "encoder": "prompt encoder", "prompt": "prompt screen", "source": "source:",
    "before": "source screen", "decoder": "decoder", "blend": "blend", "after": "image screen",
    "file": "postprocessing",
}  # fmt: skip
"""By the word in the prompt: how the error of a failed job names it."""
EDITS = frozenset({"source", "before", "blend"})


@dataclass(frozen=True)
class Poison:
    """stage: one of STAGES. A decoder that `dies unheard` does before it accepts the render."""

    stage: str
    kind: str

    @property
    def prompt(self) -> str:
        return f"poison {self.stage} {self.kind}"


class FragilePrompts(Prompts):
    """The encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Process()

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        await self.process.work(words.prompt, kind_of(words.prompt, "encoder"))
        return await super().encode(words)


class FragileVerdicts(Verdicts):
    """The classifier. `poisonous`: pictures, by their bytes, and the prompts they belong to."""

    def __init__(self) -> None:
        super().__init__()
        self.process = Process()
        self.poisonous: dict[bytes, str] = {}

    async def screen_prompt(self, words: PromptText, embeddings: object, look: Look) -> Verdict:
        """See Classifier."""
        await self.process.work(words.prompt, kind_of(words.prompt, "prompt"))
        return await super().screen_prompt(words, embeddings, look)

    async def screen_image(self, pixels: Any, look: Look) -> Verdict:
        """See Classifier."""
        prompt = self.poisonous.get(np.asarray(pixels).tobytes(), "")
        await self.process.work(prompt, kind_of(prompt, "after") or kind_of(prompt, "before"))
        return await super().screen_image(pixels, look)


class FragileFiles(Files):
    """The postprocessor and the store."""

    def __init__(self, blobs: DirectoryBlobs) -> None:
        super().__init__(blobs, CELLS)
        self.process = Process()

    async def source(self, request: ImageRequest) -> Source:
        """See Postprocessor."""
        await self.process.work(request.prompt, kind_of(request.prompt, "source"))
        return await super().source(request)

    async def blend(self, pixels: Pixels, request: ImageRequest) -> Pixels:
        """See Postprocessor."""
        await self.process.work(request.prompt, kind_of(request.prompt, "blend"))
        return await super().blend(pixels, request)

    async def encode(
        self, pixels: Pixels, request: ImageRequest, *, preview: bool = False
    ) -> bytes:
        """See Postprocessor."""
        await self.process.work(request.prompt, kind_of(request.prompt, "file"))
        return await super().encode(pixels, request, preview=preview)


class FragileDecoder(PacedDecoder):
    """Dies or hangs in every pass of a poison render."""

    def __init__(self, replica: FragileReplica) -> None:
        super().__init__(sleep=lambda _: None)
        self._replica = replica

    def step(self, batch: Sequence[DecodeState]) -> None:
        """See Decoder."""
        for render in batch:
            match self._replica.poison.get(render.spec.seed):
                case "raises" | "fails":
                    raise ArithmeticError("it broke")
                case "dies":
                    self._replica.die()
                case "hangs":
                    self._replica.hang()
        super().step(batch)


class FragileReplica(Replica):
    """A decoder; another one takes its place when it is lost. poison: kinds, by seeds."""

    def __init__(self, it: PoisonedWorld, slots: int) -> None:
        self.poison = it.poison
        self.ended = threading.Event()
        self._world = it
        super().__init__(slots, family=FragileDecoder(self))
        self.silent_seconds = SILENT_SECONDS

    async def render(self, spec: RenderSpec) -> AsyncGenerator[RenderUpdate, None]:
        """See Slot."""
        kind = self.poison.get(spec.seed)
        if kind is not None and self.lost is None:
            self._world.decoded[spec.seed] += 1
            if kind == "dies unheard":
                self._lose()
        async for update in super().render(spec):
            yield update

    def die(self) -> None:
        """On the engine's thread, which does not come back from it."""
        self._loop.call_soon_threadsafe(self._lose)
        self.ended.wait()

    def hang(self) -> None:
        """The same, but it takes a health check until it is replaced."""
        self._loop.call_soon_threadsafe(self._loop.call_later, 2 * SILENT_SECONDS, self._lose)
        self.ended.wait()

    def _lose(self) -> None:
        if self.lost is None:
            self.lose()
            self._world.replace(self)

    def stop(self) -> None:
        """End the engine's threads."""
        self.ended.set()
        super().stop()


class PoisonedWorld(World):
    """Such a lane. poison, decoded: what renders do to decoders, by seed, and how often one met
    them."""

    def __init__(self, directory: Path, replicas: int = 2, slots: int = 4) -> None:
        super().__init__(directory)
        self.poison: dict[int, str] = {}
        self.decoded: Counter[int] = Counter()
        self.prompts, self.verdicts = FragilePrompts(), FragileVerdicts()
        self.files = FragileFiles(self.blobs)
        self.lane.replicas += [FragileReplica(self, slots) for _ in range(replicas)]
        self._slots = slots
        self._gone: list[FragileReplica] = []
        self._seed = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def processes(self) -> dict[str, Process]:
        """The stages that can be away for a while."""
        return {
            "encoder": self.prompts.process, "classifier": self.verdicts.process,
            "files": self.files.process,
        }  # fmt: skip

    def replace(self, lost: FragileReplica) -> None:
        """Another decoder in the place of a lost one."""
        self.lane.replicas.remove(lost)
        self._gone.append(lost)
        lost.ended.set()
        task = asyncio.create_task(self.lane.add(FragileReplica(self, self._slots)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def order(self, poison: Poison | None, tenant: str, **changes: Any) -> Job:
        """A job of that tenant, poisonous or not; an edit where the poison needs one."""
        self._seed += 1000
        fields: dict[str, Any] = {
            "tenant": tenant, "seed": self._seed, "width": SIZE, "height": SIZE, "passes": 4,
            "prompt": f"a red fox {self._seed}",
        }  # fmt: skip
        if poison is not None:
            fields["prompt"] = poison.prompt
            fields |= self._edit(poison) if poison.stage in EDITS else {}
            if poison.stage == "decoder":
                self.poison[self._seed] = poison.kind
        job = self.submit(**(fields | changes))
        if poison is not None and poison.stage == "after":
            pixels = drawn(job.request, 0)
            self.verdicts.poisonous[pixels.tobytes()] = poison.prompt
        return job

    def tries(self, poison: Poison, job: Job) -> int:
        """How often a stage has met the poison of that job. Jobs of the same prompt count as
        one."""
        if poison.stage == "decoder":
            return self.decoded[job.request.seed]
        return sum(process.tried[poison.prompt] for process in self.processes.values())

    def _edit(self, poison: Poison) -> dict[str, Any]:
        """The right half of a picture is drawn anew."""
        canvas = np.random.default_rng(self._seed).integers(0, 256, (SIZE, SIZE, 4), np.uint8)
        canvas[..., 3] = np.where(np.arange(SIZE) < SIZE // 2, 255, 0)
        size = PacedDecoder(sleep=lambda _: None).picture_size
        small = resize(np.ascontiguousarray(canvas[..., :3]), *size)
        if poison.stage == "before":
            self.verdicts.poisonous[small.tobytes()] = poison.prompt
        file = self.sql.add_file(upload(purpose=INPUT))
        keys = input_key(file.id, "canvas"), input_key(file.id, "small")
        for key, pixels in zip(keys, (canvas, small), strict=True):
            self.blobs.put(key, encode(pixels, "png"))
        redraw = np.arange(CELLS) % 16 >= 8
        image = SourceImage(canvas=keys[0], small=keys[1], redraw=to_hex(redraw))
        return {"source": image, "passes": edit_passes(4, CELLS // 2, CELLS)}

    async def close(self) -> None:
        """See World."""
        for replica in [*self.replicas, *self._gone]:
            if isinstance(replica, FragileReplica):
                replica.ended.set()
        await super().close()
        for replica in self._gone:
            await asyncio.to_thread(replica.stop)

"""The embedded model's weights change under jobs, as in a rolling update: what other weights began
is begun again, what they drew is changed from its pixels, and prompts that another encoder has read
are read again."""

from __future__ import annotations

import base64
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from engine.decoder import DecodeState
from engine.decoders.masked import MaskedDecoder
from engine.picture import encode, resize
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.region import to_hex
from engine.render import Checkpoint, Conditioning
from engine.sampling import SAMPLER
from jobs.request import SourceImage
from tests.dispatch.dispatch_kit import world
from tests.dispatch.dispatch_stages import Files, Prompts, Replica, drawn, until
from tests.dispatch.test_edits import HEIGHT, WIDTH, submit
from tests.golden.test_masked import tiny, tiny_model

FIRST_WEIGHTS = "9a6583068532f56f"
FIRST_EDITION = f"masked:{FIRST_WEIGHTS}:{SAMPLER}"
"""What checkpoints of the weights called emoji-cpu say that they are of; they held 64 cells of ten
codes with five levels each, as those of the tiny model do."""
HELD_AFTER = 3


ENCODER = "scene:second:1"


@dataclass
class RollingPrompts(Prompts):
    """Encoders while an update rolls: those of the first edition, which made no scenes, until
    `updated`. asked: how often."""

    updated: bool = False
    asked: int = 0

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        self.asked += 1
        read = await super().encode(words)
        told = replace(read.conditioning, encoder=ENCODER)
        if not self.updated:
            told = Conditioning.from_numpy(told.digest, pooled=told.numpy("pooled"))
        return replace(read, conditioning=told)


class Counted(MaskedDecoder):
    """passes: the number of every pass that was drawn. held: it draws none after HELD_AFTER until
    `go_on` is set."""

    def __init__(self, identity: str = "tiny", *, held: bool = False, encoder: str = "") -> None:
        model = replace(tiny_model(), identity=identity, encoder=encoder)
        super().__init__(model=model, threads=1, device="cpu", dtype="float32")
        self.passes: list[int] = []
        self.go_on = threading.Event()
        if not held:
            self.go_on.set()

    def step(self, batch: Sequence[DecodeState]) -> None:
        if len(self.passes) >= HELD_AFTER:
            self.go_on.wait()
        super().step(batch)
        self.passes += [render.pass_no for render in batch]


def codes(packed: bytes | None) -> np.ndarray:
    """Of a final checkpoint, [cells, channels]."""
    assert packed is not None
    return np.frombuffer(Checkpoint.from_bytes(packed).state, np.uint8).reshape(64, 10)


async def test_a_render_that_the_first_edition_began_is_drawn_anew(tmp_path: Path) -> None:
    first, second = Counted(FIRST_WEIGHTS, held=True), Counted()
    async with world(tmp_path, Replica(4, family=first)) as it:
        job = it.submit()
        before = it.start()
        held = await it.at_pass(job, HELD_AFTER)
        stored = held.renders[0].checkpoint
        assert stored is not None
        assert Checkpoint.from_bytes(stored).model == FIRST_EDITION
        await before.kill()
        first.go_on.set()
        it.lapse()
        it.start(Replica(4, family=second))
        ended = await it.ended(job)
        assert second.passes == [*range(1, job.request.passes + 1)]
        assert ended.renders[0].checkpoint is not None
        assert Checkpoint.from_bytes(ended.renders[0].checkpoint).model == Counted().model
        alone = resize(
            drawn(job.request, 0, decoder=Counted()), job.request.width, job.request.height
        )
        assert it.pictures(ended) == {0: encode(alone, job.request.output_format)}


async def test_a_picture_of_the_first_edition_is_changed_from_its_pixels(tmp_path: Path) -> None:
    """Where it stays, it is what the encoder sees there, not what its codes would now draw."""
    first, second = Counted(FIRST_WEIGHTS), Counted()
    async with world(tmp_path, Replica(4, family=first)) as it:
        it.files = Files(it.blobs, cells=64)
        before = it.start()
        (drawn_before,) = (await it.ended(it.submit(passes=4))).renders
        assert drawn_before.checkpoint is not None
        await before.kill()
        edit = submit(it, tiny())
        it.start(Replica(4, family=second))
        redraw = np.arange(64) < 20
        canvas, small = edit.blobs
        tokens = base64.b64encode(drawn_before.checkpoint).decode()
        source = SourceImage(canvas=canvas, small=small, redraw=to_hex(redraw), tokens=tokens)
        tweaked = it.submit(width=WIDTH, height=HEIGHT, passes=2, source=source)
        (after,) = (await it.ended(tweaked)).renders
        seen = second._encoded(edit.source.pixels)
        assert (codes(after.checkpoint)[~redraw] == seen[~redraw]).all()
        assert (codes(drawn_before.checkpoint)[~redraw] != seen[~redraw]).any()


async def test_a_prompt_that_an_older_encoder_read_is_read_again(tmp_path: Path) -> None:
    """However often that takes: nothing of the job is at fault, and what was read is forgotten."""
    prompts, family = RollingPrompts(), Counted(encoder=ENCODER)
    async with world(tmp_path, Replica(4, family=family)) as it:
        it.prompts = prompts
        it.start()
        job = it.submit(n=2)
        await until(lambda: prompts.asked >= 5, "the prompt is read again and again")
        prompts.updated = True
        ended = await it.ended(job)
        assert [render.attempts for render in ended.renders] == [0, 0]
        size = job.request.width, job.request.height
        alone = [resize(drawn(job.request, n, decoder=Counted()), *size) for n in (0, 1)]
        form = job.request.output_format
        assert it.pictures(ended) == {n: encode(alone[n], form) for n in (0, 1)}


async def test_a_job_without_a_decoder_of_its_encoders_release_waits_in_the_queue(
    tmp_path: Path,
) -> None:
    prompts = RollingPrompts()
    async with world(tmp_path, Replica(4, family=Counted(encoder=ENCODER))) as it:
        it.prompts = prompts
        it.start(patience_seconds=0.0)
        job = it.submit()
        await it.when(job, lambda job: job.fence >= 3, "it was given back twice")
        prompts.updated = True
        ended = await it.ended(job)
        assert (ended.attempts, ended.renders[0].attempts) == (0, 0)

"""Changing a picture in part, through the dispatcher with real engines of both families: what must
stay the same does, to the last bit, and what comes in is screened as what goes out is."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.capabilities import Capabilities
from engine.decoder import Decoder
from engine.decoders.masked import MaskedDecoder
from engine.decoders.paced import PacedDecoder
from engine.picture import OutputFormat, blend, encode, resize
from engine.region import edit_passes, scattered, to_hex
from engine.render import Checkpoint, Pixels, RenderSpec, Source
from engine.untrusted.budget import Budget
from engine.untrusted.place import place
from jobs.blobs.store import preview_key
from jobs.files import INPUT, input_key
from jobs.job import Job, JobState
from jobs.request import SourceImage, Tenant
from tests.dispatch.dispatch_kit import World, world
from tests.dispatch.dispatch_stages import Files, Replica, conditioning_of, drawn, until
from tests.golden.test_masked import tiny_model
from tests.stages.ledger_kit import upload

WIDTH, HEIGHT = 208, 176
GRIDS: dict[type, tuple[int, int]] = {PacedDecoder: (16, 256), MaskedDecoder: (8, 64)}
"""Columns, and cells in all."""


@dataclass(frozen=True)
class Edit:
    """A job that redraws the right half of a picture, and what is known about it."""

    job: Job
    source: Source
    canvas: Pixels
    blobs: tuple[str, str]

    def shown(self, pixels: Pixels) -> Pixels:
        """What users see when the decoder has drawn that."""
        return blend(resize(pixels, WIDTH, HEIGHT), self.canvas)


def submit(it: World, decoder: Decoder, **changes: Any) -> Edit:
    """As a gateway does: the row of the input, its blobs, the job. The left half is kept, the
    column beside it is mixed."""
    canvas = np.random.default_rng(7).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    canvas[..., 3] = np.where(np.arange(WIDTH) < WIDTH // 2, 255, 0)
    canvas[:, WIDTH // 2, 3] = 128
    small = resize(np.ascontiguousarray(canvas[..., :3]), *decoder.picture_size)
    columns, cells = GRIDS[type(decoder)]
    redraw = np.arange(cells) % columns >= columns // 2
    it.files = Files(it.blobs, cells)
    file = it.sql.add_file(upload(purpose=INPUT))
    keys = input_key(file.id, "canvas"), input_key(file.id, "small")
    for key, pixels in zip(keys, (canvas, small), strict=True):
        it.blobs.put(key, encode(pixels, "png"))
    fields = {"width": WIDTH, "height": HEIGHT, "passes": edit_passes(8, cells // 2, cells)}
    image = SourceImage(canvas=keys[0], small=keys[1], redraw=to_hex(redraw))
    job = it.submit(**(fields | {"source": image} | changes))
    return Edit(job, Source(small, redraw), canvas, keys)


def read(file: bytes) -> Pixels:
    return np.asarray(Image.open(BytesIO(file)))


@pytest.fixture(params=["paced", "masked"])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    if request.param == "paced":
        return PacedDecoder(sleep=lambda _: None)
    return MaskedDecoder(model=tiny_model(), threads=1, device="cpu", dtype="float32")


async def test_outside_of_the_mask_the_picture_is_the_canvas(
    tmp_path: Path, decoder: Decoder
) -> None:
    async with world(tmp_path, Replica(4, family=decoder)) as it:
        edit = submit(it, decoder, n=2, partial_images=1)
        it.start()
        ended = await it.ended(edit.job)
        for render in ended.renders:
            final = drawn(ended.request, render.index, source=edit.source, decoder=decoder)
            stored = read(it.pictures(ended)[render.index])
            assert stored.shape == (HEIGHT, WIDTH, 3)
            assert (stored[:, : WIDTH // 2] == edit.canvas[:, : WIDTH // 2, :3]).all()
            assert (stored == edit.shown(final)).all()
            assert (stored[:, WIDTH // 2 :] != edit.canvas[:, WIDTH // 2 :, :3]).any()
            (pass_no,) = render.previews
            preview = read(it.blobs.get(preview_key(ended.id, render.index, pass_no, "png")))
            assert (preview[:, : WIDTH // 2] == edit.canvas[:, : WIDTH // 2, :3]).all()
            assert (preview != stored).any()


@pytest.mark.parametrize("output_format", ["webp", "jpeg"])
async def test_before_it_is_squeezed_too(tmp_path: Path, output_format: OutputFormat) -> None:
    paced = PacedDecoder(sleep=lambda _: None)
    async with world(tmp_path) as it:
        edit = submit(it, paced, output_format=output_format, output_compression=60)
        it.start()
        ended = await it.ended(edit.job)
        exact = edit.shown(drawn(ended.request, 0, source=edit.source))
        assert it.pictures(ended) == {0: encode(exact, output_format, 60)}


async def test_an_edit_of_what_was_drawn_here_keeps_its_tokens(tmp_path: Path) -> None:
    masked = MaskedDecoder(model=tiny_model(), threads=1, device="cpu", dtype="float32")
    async with world(tmp_path, Replica(4, family=masked)) as it:
        it.files = Files(it.blobs, cells=64)
        it.start()
        (first,) = (await it.ended(it.submit(passes=4))).renders
        assert first.checkpoint is not None
        redraw = np.arange(64) < 20
        changed = submit(it, masked)
        source = SourceImage(
            canvas=changed.blobs[0],
            small=changed.blobs[1],
            redraw=to_hex(redraw),
            tokens=base64.b64encode(first.checkpoint).decode(),
        )
        again = it.submit(width=WIDTH, height=HEIGHT, passes=2, source=source, prompt="a blue fox")
        (second,) = (await it.ended(again)).renders
        assert second.redrawn == to_hex(redraw)
        assert second.checkpoint is not None
        before, after = (
            np.frombuffer(Checkpoint.from_bytes(packed).state, np.uint8).reshape(64, -1)
            for packed in (first.checkpoint, second.checkpoint)
        )
        assert (before[~redraw] == after[~redraw]).all()
        assert (before[redraw] != after[redraw]).any()


async def test_what_is_screened_is_what_would_be_stored(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        edit = submit(it, PacedDecoder())
        it.verdicts.bad.append(edit.shown(drawn(edit.job.request, 0, source=edit.source)))
        it.start()
        ended = await it.ended(edit.job, JobState.BLOCKED)
        assert (ended.renders[0].stage, it.files.stored) == ("output", 0)


async def test_a_bad_picture_meets_no_slot_and_costs_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        edit = submit(it, PacedDecoder(), n=2)
        it.verdicts.bad.append(edit.source.pixels)
        it.start()
        ended = await it.ended(edit.job, JobState.BLOCKED)
        assert [render.stage for render in ended.renders] == ["input", "input"]
        assert it.lane.taken == 0
        assert it.sql.standing(Tenant("ada", "free"), "chat").usage.used == 0


def looking(it: World, *pictures: Pixels) -> tuple[Job, tuple[str, ...]]:
    """A job that looks at these pictures, and their keys."""
    file = it.sql.add_file(upload(purpose=INPUT))
    keys = tuple(input_key(file.id, f"reference{i}") for i in range(len(pictures)))
    for key, pixels in zip(keys, pictures, strict=True):
        it.blobs.put(key, encode(pixels, "png"))
    source = SourceImage(redraw="ff" * 32, images=len(keys), references=keys)
    return it.submit(source=source), keys


async def test_every_picture_that_is_looked_at_is_screened(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        pictures = [np.full((80, 64 + i, 3), i, np.uint8) for i in range(3)]
        it.verdicts.bad.append(pictures[1])
        job, _ = looking(it, *pictures)
        it.start()
        ended = await it.ended(job, JobState.BLOCKED)
        assert (ended.renders[0].stage, it.lane.taken, it.verdicts.asked) == ("input", 0, 2)


async def test_one_that_is_gone_fails_the_job_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        job, keys = looking(it, *(np.full((64, 64, 3), i, np.uint8) for i in range(2)))
        it.blobs.delete(keys[1])
        it.start()
        ended = await it.ended(job, JobState.FAILED)
        assert "not kept any more" in (ended.renders[0].error or "")
        assert it.lane.taken == 0


@pytest.mark.parametrize("gone", [0, 1], ids=["canvas", "small"])
async def test_a_picture_that_is_gone_fails_the_job_at_once(tmp_path: Path, gone: int) -> None:
    async with world(tmp_path) as it:
        edit = submit(it, PacedDecoder())
        it.blobs.delete(edit.blobs[gone])
        it.start()
        ended = await it.ended(edit.job, JobState.FAILED)
        (render,) = ended.renders
        assert render.error == "the picture to be changed is not kept any more: send it again"
        assert ended.attempts == 0
        assert it.lane.taken == (1 if gone == 0 else 0)


@pytest.mark.parametrize(
    ("flaw", "said"),
    [("file", "cannot be read"), ("cells", "does not fit the model any more")],
)
async def test_a_picture_of_no_use_fails_the_job_at_once(
    tmp_path: Path, flaw: str, said: str
) -> None:
    async with world(tmp_path) as it:
        edit = submit(it, PacedDecoder())
        it.sql.cancel(edit.job.id)
        image = SourceImage(canvas=edit.blobs[0], small=edit.blobs[1], redraw="ff" * 32)
        if flaw == "file":
            it.blobs.put(edit.blobs[1], b"no picture")
        else:
            image = replace(image, redraw="ff")
        job = it.submit(source=image)
        it.start()
        ended = await it.ended(job, JobState.FAILED)
        assert said in (ended.renders[0].error or "")
        assert it.lane.taken == 0


async def test_a_store_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async with world(tmp_path) as it:
        edit = submit(it, PacedDecoder())
        it.files.away = True
        it.start()
        await until(lambda: it.files.asked > 2, "the store is asked again")
        it.files.away = False
        assert (await it.ended(edit.job)).attempts == 0


CAN = Capabilities((128, 128), (8, 8), input_images=1, mask=True, strength=True)
"""Of the tiny model."""
OLDER = ((96, 96), (8, 8)), ((128, 128), (16, 16)), ((64, 64), (4, 4))
"""Size and grid of what another release drew."""


@pytest.mark.parametrize("older", OLDER, ids=["another size", "finer", "coarser"])
@pytest.mark.parametrize("masked", [True, False])
async def test_an_edit_that_another_release_prepared_is_prepared_anew(
    tmp_path: Path, older: tuple[tuple[int, int], tuple[int, int]], masked: bool
) -> None:
    """From its canvas, as a gateway of this release does."""
    rng = np.random.default_rng(3)
    files = {"image": encode(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8), "png")}
    mask = np.full((HEIGHT, WIDTH, 4), 255, np.uint8)
    mask[:, WIDTH // 2 :, 3] = 0
    if masked:
        files["mask"] = encode(mask, "png")
    then = place(files, (WIDTH, HEIGHT), *older, Budget())
    now = place(files, (WIDTH, HEIGHT), CAN.picture_size, CAN.grid, Budget())
    family = MaskedDecoder(model=tiny_model(), threads=1, device="cpu", dtype="float32")
    async with world(tmp_path, Replica(4, family=family)) as it:
        it.files = Files(it.blobs, CAN.cells, can=CAN)
        file, cells = it.sql.add_file(upload(purpose=INPUT)), older[1][0] * older[1][1]
        keys = input_key(file.id, "canvas"), input_key(file.id, "small")
        for key, picture in zip(keys, (then.canvas, then.small), strict=True):
            it.blobs.put(key, encode(np.asarray(picture), "png"))
        strength = 1.0 if masked else 0.4
        seed = 11
        redraw = scattered(cells, strength, seed)
        if then.redraw is not None:
            redraw = np.frombuffer(then.redraw, np.bool_)
        image = SourceImage(canvas=keys[0], small=keys[1], redraw=to_hex(redraw), strength=strength)
        passes = int(redraw.sum())
        job = it.submit(width=WIDTH, height=HEIGHT, passes=passes, source=image, seed=seed)
        found = await it.files.source(job.request)
        wanted = scattered(CAN.cells, strength, seed)
        if now.redraw is not None:
            wanted = np.frombuffer(now.redraw, np.bool_)
        small = np.asarray(now.small)
        assert (found.pixels == small[..., :3]).all()
        assert (found.redraw == wanted).all()
        if masked:
            assert found.mask is not None
            assert (found.mask == np.where(small[..., 3] == 255, 0, 255)).all()
        else:
            assert found.mask is None
        it.start(can=CAN)
        ended = await it.ended(job)
        if masked:
            stored, canvas = read(it.pictures(ended)[0]), np.asarray(then.canvas)
            assert (stored[:, : WIDTH // 2] == canvas[:, : WIDTH // 2, :3]).all()


async def test_the_cells_that_were_drawn_anew_are_in_the_ledger(tmp_path: Path) -> None:
    """Of each image its own: of a tweak they follow from its seed, and from the new words."""
    family = MaskedDecoder(model=tiny_model(), threads=1, device="cpu", dtype="float32")
    async with world(tmp_path, Replica(4, family=family)) as it:
        edit = submit(it, family)
        it.sql.cancel(edit.job.id)
        canvas, small = edit.blobs
        asked = scattered(64, 0.2, 5)
        source = SourceImage(canvas=canvas, small=small, redraw=to_hex(asked), strength=0.2)
        it.start()
        ended = await it.ended(
            it.submit(width=WIDTH, height=HEIGHT, passes=2, n=2, seed=5, source=source)
        )
        known = Source(edit.source.pixels, asked, strength=0.2)
        for render in ended.renders:
            told = conditioning_of(ended.request.prompt)
            spec = RenderSpec("x", told, 5 + render.index, 2, ended.request.guidance, source=known)
            assert render.redrawn == to_hex(family.begin(spec, None).redrawn)
        assert len({render.redrawn for render in ended.renders} | {to_hex(asked)}) > 1

"""Changes without a mask, of pictures that the embedded model drew and of uploads: what the new
words draw otherwise is drawn anew, and the strength says how much around it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.capabilities import DEFAULT_WEIGHTS
from engine.decoders.masked import MASKED, MaskedDecoder
from engine.region import edit_passes, scattered, to_hex
from engine.render import Checkpoint, Conditioning, RenderSpec, Source, UpdateKind
from engine.scene import COLOURS, SceneCodes
from engine.weights import WeightsFolder
from tests.golden.decoder_contract import draw
from tests.golden.test_masked import needs_weights

pytestmark = needs_weights
YELLOW = COLOURS.index("yellow")
SEED, OTHER = 3, 11


@pytest.fixture(scope="module")
def decoder() -> MaskedDecoder:
    return MaskedDecoder(threads=1, dtype="float32")


def scene(name: str, background: int = -1) -> Conditioning:
    concept = WeightsFolder.open(DEFAULT_WEIGHTS).field("concepts").index(name)
    return Conditioning.from_numpy(name, **SceneCodes(((concept, -1, 1),), background).arrays())


def run(decoder: MaskedDecoder, asked: RenderSpec) -> Checkpoint:
    """After its last pass, resumed from every checkpoint on the way."""
    checkpoint = None
    for _ in range(asked.passes):
        render = decoder.begin(asked, checkpoint)
        decoder.step([render])
        checkpoint = decoder.checkpoint(render)
    assert checkpoint is not None
    return checkpoint


def codes(checkpoint: Checkpoint) -> NDArray[np.uint8]:
    """[cells, channels]"""
    return np.frombuffer(checkpoint.state, np.uint8).reshape(64, -1)


def drawn(decoder: MaskedDecoder, told: Conditioning, seed: int = SEED) -> Checkpoint:
    return run(decoder, RenderSpec("before", told, seed, 4))


def tweak(
    decoder: MaskedDecoder, before: Checkpoint, told: Conditioning, share: float
) -> RenderSpec:
    redraw = scattered(64, share, OTHER)
    width, height = decoder.picture_size
    unseen = np.zeros((height, width, 3), np.uint8)
    source = Source(unseen, redraw, before.to_bytes(), strength=share)
    return RenderSpec("tweak", told, OTHER, edit_passes(8, int(redraw.sum()), 64), source=source)


def upload(decoder: MaskedDecoder, before: Checkpoint, asked: RenderSpec) -> RenderSpec:
    """The same change of that picture when it comes without its tokens."""
    render = decoder.begin(RenderSpec("before", scene("fox"), SEED, 4), before)
    assert asked.source is not None
    source = replace(asked.source, pixels=decoder.finish(render), tokens=None)
    return replace(asked, source=source)


def redrawn(decoder: MaskedDecoder, asked: RenderSpec) -> NDArray[np.bool_]:
    first = codes(decoder.checkpoint(decoder.begin(asked, None)))
    return np.asarray((first == MASKED).all(axis=1))


def test_the_same_words_draw_as_few_cells_anew_as_the_strength_says(decoder: MaskedDecoder) -> None:
    before = drawn(decoder, scene("fox"))
    asked = tweak(decoder, before, scene("fox"), 0.1)
    np.testing.assert_array_equal(redrawn(decoder, asked), scattered(64, 0.1, OTHER))


def test_another_thing_is_drawn_whole_at_any_strength(decoder: MaskedDecoder) -> None:
    before = drawn(decoder, scene("fox"))
    weak, strong = (tweak(decoder, before, scene("wolf"), share) for share in (0.1, 0.9))
    few, many = redrawn(decoder, weak), redrawn(decoder, strong)
    middle = np.zeros((8, 8), np.bool_)
    middle[2:6, 2:6] = True
    assert few[middle.reshape(-1)].all(), "no part of the fox stays"
    assert few.sum() < many.sum() < 64
    assert (few <= many).all()


def test_another_background_leaves_the_thing_as_it_is(decoder: MaskedDecoder) -> None:
    before = drawn(decoder, scene("fox"))
    asked = tweak(decoder, before, scene("fox", YELLOW), 0.1)
    redraw = redrawn(decoder, asked).reshape(8, 8)
    assert redraw[[0, -1]].all()
    assert not redraw[4, 3:5].any()
    after = codes(run(decoder, asked))
    kept = ~redraw.reshape(-1)
    np.testing.assert_array_equal(after[kept], codes(before)[kept])


def test_what_was_drawn_anew_is_told_with_the_picture(decoder: MaskedDecoder) -> None:
    asked = tweak(decoder, drawn(decoder, scene("fox")), scene("wolf"), 0.1)
    (done,) = (one for one in draw(decoder, asked).updates["tweak"] if one.kind is UpdateKind.DONE)
    assert asked.source is not None
    assert done.redrawn == to_hex(redrawn(decoder, asked)) != to_hex(asked.source.redraw)


def test_of_an_upload_no_part_of_what_differs_stays(decoder: MaskedDecoder) -> None:
    before = drawn(decoder, scene("fox"))
    other_thing = upload(decoder, before, tweak(decoder, before, scene("wolf"), 0.1))
    assert redrawn(decoder, other_thing).reshape(8, 8)[2:6, 2:6].all()
    other_ground = upload(decoder, before, tweak(decoder, before, scene("fox", YELLOW), 0.1))
    assert redrawn(decoder, other_ground).reshape(8, 8)[[0, -1]].all()


def test_at_full_strength_it_is_a_fresh_drawing(decoder: MaskedDecoder) -> None:
    before = drawn(decoder, scene("fox"))
    assert redrawn(decoder, tweak(decoder, before, scene("fox"), 1.0)).all()


def test_a_resumed_tweak_equals_an_uninterrupted_one(decoder: MaskedDecoder) -> None:
    before = drawn(decoder, scene("fox"))
    asked = tweak(decoder, before, scene("wolf", YELLOW), 0.5)
    render = decoder.begin(asked, None)
    while render.pass_no < asked.passes:
        decoder.step([render])
    assert run(decoder, asked).state == decoder.checkpoint(render).state


def test_a_mask_says_exactly_what_is_drawn_anew(decoder: MaskedDecoder) -> None:
    before = drawn(decoder, scene("fox"))
    redraw = np.arange(64) < 24
    width, height = decoder.picture_size
    mask = np.zeros((height, width), np.uint8)
    source = Source(np.zeros((height, width, 3), np.uint8), redraw, before.to_bytes(), mask)
    asked = RenderSpec("edit", scene("wolf", YELLOW), OTHER, 4, source=source)
    np.testing.assert_array_equal(redrawn(decoder, asked), redraw)

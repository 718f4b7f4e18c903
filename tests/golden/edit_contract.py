"""What every decoder family promises of a picture that is changed in part. A family runs it beside
`DecoderContract`, with the same fixtures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.capabilities import capabilities
from engine.decoder import Decoder
from engine.engine import DecoderEngine
from engine.render import Checkpoint, Pixels, RenderSpec, Source, UpdateKind
from tests.golden.decoder_contract import Heard, assert_same, conditioning, draw, spec

PASSES = 4


def picture(decoder: Decoder) -> Pixels:
    """Something that no family drew: three slopes."""
    width, height = decoder.picture_size
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 2, y * 2, 255 - x], axis=-1).astype(np.uint8)


def cells(decoder: Decoder) -> int:
    return capabilities(decoder.model.partition(":")[0], {}).cells


def quarter(decoder: Decoder, first: int = 0) -> NDArray[np.bool_]:
    """A region of a quarter of the cells, from the `first` on."""
    redraw = np.zeros(cells(decoder), np.bool_)
    redraw[first : first + redraw.size // 4] = True
    return redraw


def edit(decoder: Decoder, render_id: str = "mine", seed: int = 7, **more: Any) -> RenderSpec:
    """A quarter of `picture` drawn anew."""
    more.setdefault("source", Source(picture(decoder), quarter(decoder)))
    more.setdefault("passes", PASSES)
    return spec(render_id, seed, **more)


def tokens(decoder: Decoder, checkpoint: bytes | Checkpoint) -> NDArray[np.uint8]:
    """[cells, numbers of a cell]"""
    if isinstance(checkpoint, bytes):
        checkpoint = Checkpoint.from_bytes(checkpoint)
    return np.frombuffer(checkpoint.state, np.uint8).reshape(cells(decoder), -1)


class EditContract:
    def test_locked_cells_keep_every_code(self, decoder: Decoder) -> None:
        asked = edit(decoder)
        kept = ~quarter(decoder)
        first = tokens(decoder, decoder.checkpoint(decoder.begin(asked, None)))
        assert ((first == 255).all(axis=1) == quarter(decoder)).all()
        checkpoints = draw(decoder, asked).checkpoints("mine")
        assert list(checkpoints) == list(range(1, PASSES + 1))
        assert len(set(checkpoints.values())) == PASSES
        for checkpoint in checkpoints.values():
            assert (tokens(decoder, checkpoint)[kept] == first[kept]).all()
        assert (tokens(decoder, checkpoints[PASSES]) != 255).all()

    def test_prompt_seed_and_source_decide_what_is_drawn(self, decoder: Decoder) -> None:
        prompt, redraw = conditioning(1), quarter(decoder)
        other = Source(255 - picture(decoder), redraw)
        drawn = [
            tokens(decoder, draw(decoder, asked).checkpoints("mine")[PASSES])
            for asked in (
                edit(decoder, conditioning=prompt),
                edit(decoder, conditioning=prompt),
                edit(decoder, conditioning=conditioning(2)),
                edit(decoder, seed=8, conditioning=prompt),
                edit(decoder, conditioning=prompt, source=other),
            )
        ]
        assert (drawn[0] == drawn[1]).all()
        assert (drawn[0][redraw] != drawn[3][redraw]).any()
        for changed in drawn[2:]:
            assert (drawn[0] != changed).any()

    def test_an_edit_alone_equals_one_in_a_busy_batch(self, decoder: Decoder) -> None:
        alone = draw(decoder, edit(decoder))
        heard = Heard()
        engine = DecoderEngine(decoder, 4, heard)
        engine.add(spec("whole", 1, 6))
        engine.step()
        engine.add(edit(decoder, "other", 2, passes=3))
        engine.add(edit(decoder, preview_after=(1, 2)))
        engine.step()
        elsewhere = Source(picture(decoder), quarter(decoder, first=9))
        engine.add(edit(decoder, "late", 3, source=elsewhere))
        engine.step()
        engine.abort("other")
        assert engine.drain()
        engine.stop()
        assert_same(heard, alone)

    def test_an_edit_restored_at_any_pass_equals_uninterrupted(
        self, make_decoder: Callable[[], Decoder]
    ) -> None:
        whole = draw(make_decoder(), edit(make_decoder()))
        fresh = make_decoder()
        for pass_no, checkpoint in whole.checkpoints("mine").items():
            heard = draw(fresh, edit(fresh, checkpoint=checkpoint), spec("neighbour", 9, 2))
            assert heard.updates["mine"][0].pass_no == pass_no
            assert list(heard.checkpoints("mine")) == list(range(pass_no + 1, PASSES + 1))
            assert_same(heard, whole)

    def test_a_checkpoint_of_another_source_begins_again(self, decoder: Decoder) -> None:
        whole = draw(decoder, edit(decoder))
        wanting = whole.checkpoints("mine")[2]
        for source in (
            Source(255 - picture(decoder), quarter(decoder)),
            Source(picture(decoder), quarter(decoder, first=1)),
            None,
        ):
            asked = edit(decoder, source=source)
            heard = draw(decoder, replace(asked, checkpoint=wanting))
            assert list(heard.checkpoints("mine")) == list(range(1, PASSES + 1))
            assert_same(heard, draw(decoder, asked))

    def test_all_cells_anew_is_a_picture_like_any(self, decoder: Decoder) -> None:
        everything = Source(picture(decoder), np.ones(cells(decoder), np.bool_))
        assert_same(draw(decoder, edit(decoder, source=everything)), draw(decoder, spec(passes=4)))

    def test_the_preview_of_an_edit_shows_what_stays(self, decoder: Decoder) -> None:
        """The uppermost quarter is drawn; a network that looks around may touch what is near."""
        render = decoder.begin(edit(decoder), None)
        decoder.step([render])
        preview = decoder.preview(render).astype(float)
        moved = np.abs(preview - draw(decoder, edit(decoder)).pixels("mine"))
        quarter_high = len(moved) // 4
        assert moved[-quarter_high:].mean() < 0.1 * moved[:quarter_high].mean()

    @pytest.mark.parametrize(
        ("field", "flaw"),
        [
            ("source.pixels", lambda source: replace(source, pixels=source.pixels[1:])),
            ("source.pixels", lambda source: replace(source, pixels=source.pixels / 255)),
            ("source.redraw", lambda source: replace(source, redraw=source.redraw[1:])),
            ("source.redraw", lambda source: replace(source, redraw=source.redraw * 1)),
            ("source.redraw", lambda source: replace(source, redraw=source.redraw & False)),
        ],
    )
    def test_a_source_that_does_not_fit_is_rejected_by_name(
        self, decoder: Decoder, field: str, flaw: Callable[[Source], Source]
    ) -> None:
        heard = Heard()
        engine = DecoderEngine(decoder, 1, heard)
        engine.add(edit(decoder, source=flaw(Source(picture(decoder), quarter(decoder)))))
        assert engine.drain()
        engine.stop()
        last = heard.updates["mine"][-1]
        assert (last.kind, last.rejected) == (UpdateKind.FAILED, True)
        assert field in (last.error or "")

    def test_more_passes_than_cells_to_draw_are_rejected(self, decoder: Decoder) -> None:
        heard = draw(decoder, edit(decoder, passes=cells(decoder) // 4 + 1))
        assert heard.updates["mine"][-1].rejected
        assert "passes" in (heard.updates["mine"][-1].error or "")

"""The paced family keeps what every family promises, and its own promises about time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
import pytest

from engine.decoder import Decoder, RenderRejected
from engine.decoders.paced import PacedDecoder
from engine.registry import UnknownFamily, create_decoder
from engine.render import LoraUse, Source
from tests.golden.decoder_contract import DecoderContract, draw, spec
from tests.golden.edit_contract import EditContract, edit, quarter


class TestPaced(DecoderContract, EditContract):
    @pytest.fixture
    def make_decoder(self) -> Callable[[], Decoder]:
        return lambda: create_decoder("paced", pass_ms=0.0, per_row_ms=0.0)


def test_a_pass_lasts_what_its_cost_says() -> None:
    slept: list[float] = []
    decoder = PacedDecoder(pass_ms=20, per_row_ms=5, sleep=slept.append)
    draw(decoder, spec("a", 1, 2), spec("b", 2, 3))
    assert slept == pytest.approx([0.030, 0.030, 0.025])
    assert decoder.plan(spec()).pass_seconds == pytest.approx(0.025)


def test_previews_go_from_blurry_to_clear() -> None:
    heard = draw(PacedDecoder(0, 0), spec(passes=16, preview_after=tuple(range(1, 16))))
    final = heard.pixels("mine").astype(float)
    errors = [
        np.abs(update.preview - final).mean()
        for update in heard.updates["mine"]
        if update.preview is not None
    ]
    assert errors[0] > 2 * errors[7] > 4 * errors[-1] > 0


def test_the_same_picture_as_ever() -> None:
    """A change of these tokens must come with another model identity, or restores go wrong."""
    decoder = PacedDecoder(0, 0)
    tokens = draw(decoder, spec()).checkpoints("mine")[6]
    assert decoder.model == "paced:none:1"
    assert hashlib.sha256(tokens).hexdigest()[:16] == "05c60e344e1c4dad"


def test_the_same_edit_as_ever() -> None:
    decoder = PacedDecoder(0, 0)
    heard = draw(decoder, edit(decoder))
    digest = hashlib.sha256(heard.checkpoints("mine")[4]).hexdigest()
    assert digest[:16] == "a6315cf40ec47715"


def test_a_locked_cell_has_the_colour_nearest_to_the_picture() -> None:
    """Pixels of its own palette come out as they were."""
    decoder = PacedDecoder(0, 0)
    before = draw(decoder, spec()).pixels("mine")
    after = draw(decoder, edit(decoder, source=Source(before, quarter(decoder)))).pixels("mine")
    np.testing.assert_array_equal(after[32:], before[32:])
    assert (after[:32] != before[:32]).any()


def test_guidance_must_be_positive() -> None:
    with pytest.raises(RenderRejected, match="guidance"):
        PacedDecoder(0, 0).plan(spec(guidance=0.0))


def test_loras_must_be_empty() -> None:
    with pytest.raises(RenderRejected, match="loras"):
        PacedDecoder(0, 0).plan(spec(loras=(LoraUse("ink", 0.5),)))


def test_an_unknown_family_is_named_with_those_that_exist() -> None:
    with pytest.raises(UnknownFamily, match=r"'dalle'.*masked, paced"):
        create_decoder("dalle")

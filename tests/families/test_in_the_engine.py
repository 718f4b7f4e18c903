"""The family behind DecoderEngine: renders leave, go on elsewhere, and fail alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from engine.engine import DecoderEngine
from engine.render import Checkpoint, Conditioning, RenderSpec, UpdateKind
from tests.families.kit import Case, conditioning, decoder, spec, stock_picture
from tests.golden.decoder_contract import Heard

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
CASES = [
    Case("StableDiffusionXLPipeline", "StableDiffusionXLPipeline"),
    Case("FluxPipeline", "FluxPipeline"),
    Case("ZImagePipeline", "ZImagePipeline"),
]
every_case = pytest.mark.parametrize("case", CASES, ids=str)


def drawn(heard: Heard, case: Case, wanted: RenderSpec) -> None:
    """It is the stock picture, to one level of 255."""
    ours = heard.pixels(wanted.render_id).astype(int)
    assert np.abs(ours - (stock_picture(case, wanted) * 255).round()).max() <= 1


@every_case
def test_a_render_that_was_preempted_goes_on_elsewhere(case: Case) -> None:
    here, there = Heard(), Heard()
    engine = DecoderEngine(decoder(case.checkpoint), 2, here)
    wanted, other = spec(case, 0, 6), spec(case, 1, 4)
    engine.add(wanted)
    engine.step()
    engine.add(other)
    engine.step()
    engine.leave(wanted.render_id)
    engine.step()
    assert engine.drain()
    engine.stop()
    left = here.updates[wanted.render_id][-1]
    assert (left.kind, left.pass_no) == (UpdateKind.LEFT, 3)
    drawn(here, case, other)
    engine = DecoderEngine(decoder(case.checkpoint, number=1), 2, there)
    engine.add(replace(wanted, checkpoint=left.checkpoint))
    engine.add(spec(case, 2, 3))
    assert engine.drain()
    engine.stop()
    assert there.updates[wanted.render_id][0].pass_no == 3
    drawn(there, case, wanted)


@every_case
def test_a_render_whose_numbers_break_fails_alone(case: Case) -> None:
    good = conditioning(case.checkpoint, 1)
    arrays = {name: good.numpy(name) * np.float32("nan") for name in good.tensors}
    heard = Heard()
    engine = DecoderEngine(decoder(case.checkpoint), 3, heard)
    engine.add(spec(case, 0))
    engine.add(spec(case, 1, conditioning=Conditioning.from_numpy("nan", **arrays)))
    engine.add(spec(case, 2, preview_after=(2,)))
    assert engine.drain()
    engine.stop()
    failed = heard.updates["render1"][-1]
    assert failed.kind is UpdateKind.FAILED
    assert "NaN" in (failed.error or "")
    assert any(update.preview is not None for update in heard.updates["render2"])
    drawn(heard, case, spec(case, 0))
    drawn(heard, case, spec(case, 2))


@every_case
@pytest.mark.parametrize("damage", ["cut", "empty", "another size", "another model"])
def test_a_checkpoint_that_is_of_no_use_begins_again(case: Case, damage: str) -> None:
    here = decoder(case.checkpoint)
    wanted, small = spec(case, 0), spec(case, 0, width=32, height=32)
    state = here.begin(small if damage == "another size" else wanted, None)
    here.step([state])
    taken = here.checkpoint(state)
    here.drop(state)
    damaged = {
        "cut": replace(taken, state=taken.state[:-1]),
        "empty": replace(taken, state=b""),
        "another size": taken,
        "another model": Checkpoint(taken.model + "0", 1, taken.seed, taken.state),
    }[damage]
    heard = Heard()
    engine = DecoderEngine(here, 1, heard)
    engine.add(replace(wanted, checkpoint=damaged.to_bytes()))
    assert engine.drain()
    engine.stop()
    drawn(heard, case, wanted)

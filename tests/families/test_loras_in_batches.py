"""LoRAs of their own for renders that share forwards, in every pipeline class that has any."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.decoder import RenderRejected
from engine.decoders.diffusers.decoder import DiffusersDecoder
from engine.render import LoraUse, RenderSpec
from engine.text import WeightsError
from tests.families import kit
from tests.families.kit import Case, draw_alone, draw_staggered, spec, stock_picture
from tests.families.lora_files import save_loras

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning"),  # stock only
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`LoraLoaderMixin` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),
]

WITHOUT = {
    "PixArtAlphaPipeline",
    "PixArtSigmaPipeline",
    "OvisImagePipeline",
    "AmusedPipeline",
    "PRXPipeline",
    "BriaPipeline",
}
"""diffusers loads no LoRAs for these."""
ALONE = {"ZImagePipeline", "Krea2Pipeline"}
"""These have linear layers that see the tokens of all rows in one list."""
CASES = [case for case in kit.CASES if case.name == case.checkpoint and case.name not in WITHOUT]
INK, OIL = LoraUse("ink", 0.5), LoraUse("oil", -1.0)
MIXES: list[tuple[LoraUse, ...]] = [(INK,), (), (OIL, INK)]

SD3 = Case("StableDiffusion3Pipeline", "StableDiffusion3Pipeline")

every_class = pytest.mark.parametrize("case", CASES, ids=str)


@functools.cache
def files(checkpoint: str) -> dict[str, Path]:
    return save_loras(new_stock(checkpoint), checkpoint, kit.SCRATCH[0] / f"loras-{checkpoint}")


def new_stock(checkpoint: str) -> Any:
    return kit.stock.__wrapped__(checkpoint, checkpoint)


@functools.cache
def decoder(checkpoint: str, row_chunk: int = 8) -> DiffusersDecoder:
    named = {name: str(path) for name, path in files(checkpoint).items()}
    return DiffusersDecoder(kit.folder(checkpoint), row_chunk=row_chunk, loras=named)


def company(case: Case) -> list[RenderSpec]:
    return [
        replace(each, loras=loras) for each, loras in zip(kit.company(case), MIXES, strict=True)
    ]


def stock_pictures(case: Case, specs: list[RenderSpec], patch: pytest.MonkeyPatch) -> list[Any]:
    pipe = new_stock(case.checkpoint)
    plain = new_stock(case.checkpoint)
    for name, path in files(case.checkpoint).items():
        pipe.load_lora_weights(path, adapter_name=name, local_files_only=True)
    found = []
    for each in specs:
        if each.loras:
            uses = sorted(each.loras, key=lambda use: use.name)
            pipe.set_adapters([use.name for use in uses], [use.weight for use in uses])
        patch.setattr(kit, "stock", lambda *_, each=each: pipe if each.loras else plain)
        found.append(stock_picture(case, each))
    return found


@every_class
def test_renders_with_loras_of_their_own_share_forwards(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = company(case)
    expected = stock_pictures(case, specs, monkeypatch)
    shared = decoder(case.checkpoint)
    before = shared.models.forwards
    together = draw_staggered(shared, specs)
    forwards = shared.models.forwards - before
    alone = decoder(case.checkpoint, row_chunk=1)
    before = alone.models.forwards
    for each, found, right in zip(specs, together, expected, strict=True):
        assert np.abs(found - right).max() <= case.tolerance
        np.testing.assert_array_equal(draw_alone(alone, each), right)
    assert case.name in ALONE or forwards < alone.models.forwards - before
    plain = draw_alone(alone, replace(specs[0], loras=()))
    assert np.abs(expected[0] - plain).max() > 10 * case.tolerance


@pytest.mark.parametrize("checkpoint", sorted(WITHOUT))
def test_classes_without_loras_say_so(checkpoint: str) -> None:
    file = files(SD3.checkpoint)["ink"]
    with pytest.raises(WeightsError, match=f"diffusers has none for {checkpoint}"):
        DiffusersDecoder(kit.folder(checkpoint), loras={"ink": str(file)})


def test_resumed_with_its_loras_it_is_the_same_picture() -> None:
    alone = decoder(SD3.checkpoint, row_chunk=1)
    asked = spec(SD3, loras=(OIL, INK))
    checkpoint = kit.checkpoint_after(alone, asked, 2)
    state = alone.begin(replace(asked, loras=(INK, OIL)), checkpoint)
    while state.pass_no < state.passes:
        alone.step([state])
    np.testing.assert_array_equal(kit.floats(alone, state), draw_alone(alone, asked))
    alone.drop(state)


@pytest.mark.parametrize("loras", [(), (INK,), (OIL, LoraUse("ink", 0.4))])
def test_a_checkpoint_of_other_loras_is_not_gone_on_from(loras: tuple[LoraUse, ...]) -> None:
    alone = decoder(SD3.checkpoint, row_chunk=1)
    checkpoint = kit.checkpoint_after(alone, spec(SD3, loras=(OIL, INK)), 2)
    with pytest.raises(ValueError, match="is of LoRAs 'ink:"):
        alone.begin(spec(SD3, loras=loras), checkpoint)


def test_unknown_loras_are_rejected_before_anything_is_loaded() -> None:
    asked = spec(SD3, loras=(LoraUse("tar"),))
    for refused in (decoder(SD3.checkpoint), kit.decoder(SD3.checkpoint)):
        with pytest.raises(RenderRejected, match="loras: there is no 'tar'"):
            refused.plan(asked)


def test_a_render_that_is_over_lets_its_loras_go() -> None:
    named = {name: str(path) for name, path in files(SD3.checkpoint).items()}
    drawing = DiffusersDecoder(kit.folder(SD3.checkpoint), loras=named, loras_loaded=1)
    ink = drawing.begin(spec(SD3, loras=(INK,)), None)
    drawing.step([ink])
    oil = drawing.begin(spec(SD3, 1, loras=(OIL,)), None)
    assert drawing.loras.loaded == ("ink", "oil")
    for state in (ink, oil):
        drawing.drop(state)
    del ink, oil, state
    drawing.drop(drawing.begin(spec(SD3, 2, loras=(INK,)), None))
    assert drawing.loras.loaded == ("ink",)

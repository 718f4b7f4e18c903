"""Prompts are read as the stock pipeline reads them, without the parts that draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from engine.decoders.diffusers.prompts import DiffusersPromptEncoder
from engine.decoders.diffusers.table import CLASSES
from engine.prompt_encoder import PromptEncoder, PromptText
from engine.registry import create_prompt_encoder
from engine.render import TensorBytes
from engine.tensors import to_torch
from tests.families.checkpoints import EDGE, WITH_TEXT
from tests.families.kit import Case, decoder, draw_alone, folder, picture, spec, stock
from tests.golden.prompt_encoder_contract import PromptEncoderContract

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
every_class = pytest.mark.parametrize("name", WITH_TEXT)
WORDS = [
    (name, negative)
    for name in WITH_TEXT
    if not CLASSES[name].encoder_pixels  # see test_looking_encoders.py
    for negative in (None, "snow and ice")
    if negative is None or name != "FluxPipeline"
]


@pytest.mark.parametrize(("name", "negative"), WORDS)
def test_a_prompt_in_words_is_the_stock_picture(name: str, negative: str | None) -> None:
    """Read by the one process and drawn by the other, to the last bit."""
    encoder = create_prompt_encoder("diffusers", weights=folder(name), row_chunk=1)
    words = PromptText("two red foxes", negative)
    (told,) = encoder.encode([words])
    case = Case(name, name)
    wanted = spec(case, 1, conditioning=told, guidance=4.0)
    found = draw_alone(decoder(name, row_chunk=1), wanted)
    asked: dict[str, Any] = {"guidance_scale": 3.0 if name == "ZImagePipeline" else 4.0}
    if negative is not None:
        asked["negative_prompt"] = negative
    if name == "PixArtSigmaPipeline":
        asked["use_resolution_binning"] = False
    generator = torch.Generator().manual_seed(wanted.seed)
    picture = stock(name, name)(
        words.prompt,
        num_inference_steps=wanted.passes,
        generator=generator,
        output_type="np",
        width=EDGE,
        height=EDGE,
        **asked,
    ).images[0]
    np.testing.assert_array_equal(found, picture)


@every_class
def test_what_draws_is_not_loaded(name: str) -> None:
    encoder = DiffusersPromptEncoder(folder(name))
    there = {n for n, part in encoder.pipe.components.items() if part is not None}
    assert there == {*WITH_TEXT[name](), "scheduler"}
    seen = (TensorBytes.from_numpy(picture(1)),) if CLASSES[name].encoder_pixels else ()
    (told,) = encoder.encode([PromptText("a fox", pictures=seen)])
    wanted = spec(Case(name, name)).conditioning.tensors.keys()
    if CLASSES[name].encoder_pixels:  # words that need no padding come without their mask
        wanted -= {"prompt_embeds_mask", "negative_prompt_embeds_mask"}
    assert told.tensors.keys() == wanted


@every_class
def test_decoders_load_nothing_that_reads(name: str) -> None:
    there = {n for n, part in decoder(name).pipe.components.items() if part is not None}
    assert not there & WITH_TEXT[name]().keys()


def test_half_precision_crosses_as_it_is() -> None:
    encoder = DiffusersPromptEncoder(folder("FluxPipeline"), dtype="bfloat16")
    (told,) = encoder.encode([PromptText("a fox")])
    assert to_torch(told.tensors["prompt_embeds"]).dtype == torch.bfloat16
    assert told.tensors["prompt_embeds"].shape == (512, 16)


class TestDiffusersPrompts(PromptEncoderContract):
    @pytest.fixture(params=["StableDiffusionXLPipeline", "ZImagePipeline"])
    def encoder(self, request: pytest.FixtureRequest) -> PromptEncoder:
        return DiffusersPromptEncoder(folder(request.param))


class TestDistilledPrompts(PromptEncoderContract):
    negative = False

    @pytest.fixture
    def encoder(self) -> PromptEncoder:
        return DiffusersPromptEncoder(folder("FluxPipeline"))

"""Text encoders that look at pictures: read by one process, drawn by another, as the stock pipeline
does both."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.capabilities import capabilities
from engine.decoder import RenderRejected
from engine.decoders.diffusers.prompts import TOKENS_MAX, DiffusersPromptEncoder
from engine.decoders.diffusers.table import Task
from engine.prompt_encoder import PromptText
from engine.render import Pixels, RenderSpec, TensorBytes
from tests.families.kit import (
    FP32,
    Case,
    checkpoint_after,
    decoder,
    draw_alone,
    draw_staggered,
    floats,
    folder,
    picture,
    spec,
    stock,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
EDIT = Case("QwenImageEditPipeline", "QwenImageEditPipeline", Task.REFER)
PLUS = Case("QwenImageEditPlusPipeline", "QwenImageEditPlusPipeline", Task.REFER)
both = pytest.mark.parametrize("case", [EDIT, PLUS], ids=str)
SIZES = [(64, 64), (96, 64), (64, 80), (200, 88)]


@functools.cache
def encoder(case: Case) -> DiffusersPromptEncoder:
    return DiffusersPromptEncoder(folder(case.checkpoint))


def words(prompt: str, pictures: tuple[Pixels, ...], negative: str | None = None) -> PromptText:
    return PromptText(prompt, negative, pictures=tuple(map(TensorBytes.from_numpy, pictures)))


def edits(case: Case, guidance: float = 3.0) -> list[tuple[RenderSpec, PromptText]]:
    """Three, of other words, step counts and pictures."""
    found = []
    for i, (prompt, passes, pictures) in enumerate(
        (("a blue door", 3, 3), ("make it snow, and add a red fox", 4, 3), ("night", 3, 1))
    ):
        count = pictures if case is PLUS else 1
        seen = tuple(picture(4 * i + j, *SIZES[j]) for j in range(count))
        text = words(prompt, seen, "blurry" if i else "")
        (told,) = encoder(case).encode([text])
        asked: Any = {"conditioning": told, "references": seen, "guidance": guidance}
        found.append((spec(case, i, passes, **asked), text))
    return found


def drawn_by_stock(case: Case, wanted: RenderSpec, text: PromptText) -> NDArray[np.float32]:
    """Of the very words and pictures."""
    images = [Image.fromarray(pixels) for pixels in wanted.references]
    out = stock(case.name, case.checkpoint)(
        image=images if case is PLUS else images[0],
        prompt=text.prompt,
        negative_prompt=text.negative,
        true_cfg_scale=wanted.guidance,
        num_inference_steps=wanted.passes,
        width=wanted.width,
        height=wanted.height,
        generator=torch.Generator().manual_seed(wanted.seed),
        output_type="np",
    )
    found: NDArray[np.float32] = out.images[0]
    return found


@both
def test_alone_and_in_company_and_resumed_it_is_the_stock_picture(case: Case) -> None:
    asked = edits(case)
    specs = [each for each, _ in asked]
    wanted = [drawn_by_stock(case, *each) for each in asked]
    exact = draw_alone(decoder(case.checkpoint, row_chunk=1), specs[0])
    np.testing.assert_array_equal(exact, wanted[0])
    shared = decoder(case.checkpoint)
    for found, right in zip(draw_staggered(shared, specs), wanted, strict=True):
        np.testing.assert_allclose(found, right, rtol=0, atol=FP32)
    taken = checkpoint_after(shared, specs[1], 2)
    other = decoder(case.checkpoint, number=1)
    state = other.begin(specs[1], taken)
    for _ in range(2):
        other.step([state])
    np.testing.assert_allclose(floats(other, state), wanted[1], rtol=0, atol=FP32)


@both
def test_what_is_read_depends_on_the_pictures(case: Case) -> None:
    """In their order, and so does the digest by which it is kept."""
    seen = (picture(1), picture(2)) if case is PLUS else (picture(1),)
    other = seen[::-1] if case is PLUS else (picture(2),)
    here, asked = encoder(case), [words("a fox", seen), words("a fox", other), words("a fox", seen)]
    one, two, same = here.encode(asked)
    assert one == same
    assert one.digest == asked[0].digest(here.model) != two.digest
    assert one.tensors["prompt_embeds"] != two.tensors["prompt_embeds"]
    case_spec = spec(case, 1, references=seen, conditioning=one, guidance=1.0)
    pictures = [
        draw_alone(decoder(case.checkpoint), each)
        for each in (case_spec, replace(case_spec, conditioning=two))
    ]
    assert np.abs(pictures[0] - pictures[1]).max() > 5 * FP32


@both
def test_words_without_pictures_are_not_read_and_not_drawn(case: Case) -> None:
    (told,) = encoder(case).encode([PromptText("a fox")])
    assert not told.tensors
    assert told.digest == PromptText("a fox").digest(encoder(case).model)
    with pytest.raises(RenderRejected, match="references must hold a picture"):
        decoder(case.checkpoint).plan(spec(Case(case.name, case.name), conditioning=told))


def test_more_than_it_takes_is_refused() -> None:
    seen = tuple(picture(i) for i in range(5))
    with pytest.raises(ValueError, match="pictures must be at most 4"):
        encoder(PLUS).encode([words("a fox", seen)])
    with pytest.raises(RenderRejected, match="references must be at most 4"):
        decoder(PLUS.checkpoint).plan(spec(PLUS, references=seen))
    words_alone = DiffusersPromptEncoder(folder("ZImagePipeline"))
    with pytest.raises(ValueError, match="pictures must be at most 0"):
        words_alone.encode([words("a fox", seen[:1])])


def test_a_prompt_longer_than_the_denoiser_reads_is_refused() -> None:
    with pytest.raises(ValueError, match=f"prompt must be shorter.*{TOKENS_MAX}"):
        encoder(EDIT).encode([words("fox " * 1000, (picture(1),))])


@both
def test_a_prompt_that_stands_in_for_pictures_is_refused(case: Case) -> None:
    """Its special tokens would take the place of a picture's."""
    with pytest.raises(ValueError, match="same as the number of images"):
        encoder(case).encode([words("a <|image_pad|> fox", (picture(1),))])


@both
def test_a_gateway_knows_that_its_encoder_looks(case: Case) -> None:
    can = capabilities("diffusers", {"weights": str(folder(case.checkpoint))})
    assert can.encoder_looks
    assert can.looks
    assert (can.input_images, can.draws) == (4 if case is PLUS else 1, False)


@pytest.mark.slow
@pytest.mark.usefixtures("whole_references")
@both
def test_whole_references_are_scaled_as_by_the_stock_pipeline(case: Case) -> None:
    wanted, text = edits(case)[2]
    (told,) = encoder(case).encode([text])
    assert told.tensors["prompt_embeds"].shape[0] > (1300 if case is EDIT else 180)
    wanted = replace(wanted, conditioning=told, passes=2)
    found = draw_alone(decoder(case.checkpoint, row_chunk=1), wanted)
    np.testing.assert_array_equal(found, drawn_by_stock(case, wanted, text))

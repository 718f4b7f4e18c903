"""Edits of a checkpoint of diffusers, from the official client through gateway, ledger, dispatcher
and engine: the pixels are those of the stock pipelines. Only Ray is missing."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dispatch.ports import Encoder
from engine.decoders.diffusers.table import Task
from engine.picture import encode
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.registry import create_prompt_encoder
from engine.render import Pixels
from tests.families.checkpoints import EDGE
from tests.families.kit import Case, conditioning, folder, picture, spec, stock, stock_picture
from tests.page.pipeline import CONFIG, Pipeline

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
SDXL, FLUX2 = "StableDiffusionXLPipeline", "Flux2Pipeline"
QWEN = "QwenImageEditPlusPipeline"
STEPS, GUIDANCE, PROMPT = 7, 3.0, "a blue door"
HOLE = np.zeros((EDGE, EDGE), np.bool_)
HOLE[10:40, 5:33] = True


class FamilyEncoder:
    """The family's own text encoders, in a thread."""

    def __init__(self, checkpoint: Path) -> None:
        self._encoder = create_prompt_encoder("diffusers", weights=checkpoint)

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        (found,) = await asyncio.to_thread(self._encoder.encode, [words])
        return EncodedPrompt(found, np.zeros((1, 384), np.float16))


class RandomEncoder:
    """For a tiny checkpoint without text parts: the prompt's length is the seed of its tensors."""

    async def encode(self, words: PromptText) -> EncodedPrompt:
        """See Encoder."""
        found = conditioning(FLUX2, len(words.prompt))
        return EncodedPrompt(found, np.zeros((1, 384), np.float16))


def serving(directory: Path, checkpoint: str, encoder: Encoder) -> Pipeline:
    model = {
        "name": "own",
        "family": "diffusers",
        "options": {"weights": str(folder(checkpoint)), "row_chunk": 1},
        "guidance": GUIDANCE,
        "size": f"{EDGE}x{EDGE}",
    }
    settings = {**CONFIG, "model": model, "qualities": {"medium": STEPS}}
    return Pipeline(directory, settings, encoder=encoder)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    encoder = FamilyEncoder(folder(SDXL))
    running = serving(tmp_path_factory.mktemp("sdxl"), SDXL, encoder)
    yield running
    running.close()


def asking(running: Pipeline) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}v1", api_key="sk-local", max_retries=0)


@pytest.fixture
def client(sdxl: Pipeline) -> Iterator[openai.OpenAI]:
    with asking(sdxl) as made:
        yield made


def sent(pixels: Pixels) -> bytes:
    return encode(pixels, "png")


def hole() -> bytes:
    """As OpenAI's clients send a mask: transparent where it is edited."""
    pixels = np.zeros((EDGE, EDGE, 4), np.uint8)
    pixels[..., 3] = np.where(HOLE, 0, 255)
    return sent(pixels)


def shown(b64: str | None) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64 or ""))))


def drawn_by_stock(name: str, seed: int, image: Pixels, **asked: Any) -> NDArray[np.int64]:
    pipe = stock(name, SDXL)
    out = pipe(
        PROMPT,
        image=Image.fromarray(image),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
        output_type="np",
        **asked,
    )
    found: NDArray[np.int64] = (out.images[0] * 255).round().astype(int)
    return found


@pytest.mark.parametrize("strength", [None, 0.6])
def test_a_mask_redraws_pixels_as_the_stock_pipeline_does_and_keeps_all_others(
    client: openai.OpenAI, strength: float | None
) -> None:
    before = picture(3)
    more: dict[str, Any] = {"seed": 5} if strength is None else {"seed": 5, "strength": strength}
    answer = client.images.edit(
        image=sent(before), mask=hole(), prompt=PROMPT, quality="medium", extra_body=more
    )
    assert answer.data is not None
    after = shown(answer.data[0].b64_json)
    mask = Image.fromarray(HOLE.astype(np.uint8) * 255)
    wanted = drawn_by_stock(
        "StableDiffusionXLInpaintPipeline", 5, before, mask_image=mask, strength=strength or 1.0
    )
    assert (after[~HOLE] == before[~HOLE]).all()
    assert (after[HOLE] == wanted[HOLE]).all()
    assert (after[HOLE] != before[HOLE]).any(axis=1).mean() > 0.9


def test_a_picture_is_changed_as_a_whole_in_as_many_passes_as_its_strength_says(
    client: openai.OpenAI, sdxl: Pipeline
) -> None:
    before = picture(4)
    headers = {"authorization": "Bearer sk-local"}
    for wishes, strength in (
        ({"strength": "0.45"}, 0.45),
        ({"input_fidelity": "high"}, 0.5),
        ({}, 0.8),
    ):
        fields = {"prompt": PROMPT, "quality": "medium", "seed": "6", **wishes}
        answer = httpx.post(
            f"{sdxl.url}v1/images/edits",
            data=fields,
            files={"image": ("door.png", sent(before))},
            headers=headers,
            timeout=60,
        ).json()
        wanted = drawn_by_stock("StableDiffusionXLImg2ImgPipeline", 6, before, strength=strength)
        assert (shown(answer["data"][0]["b64_json"]) == wanted).all()
        job = httpx.get(
            f"{sdxl.url}v1/jobs/{answer['data'][0]['id'].split('_')[1]}", headers=headers
        )
        assert job.json()["passes_total"] == int(STEPS * strength)


def test_a_picture_that_was_drawn_here_is_gone_on_from(
    client: openai.OpenAI, sdxl: Pipeline
) -> None:
    first = client.images.generate(prompt="a red fox", extra_body={"seed": 7})
    assert first.data is not None
    where = f"{sdxl.url}v1/images/{first.data[0].id}"  # type: ignore[attr-defined]
    body = {"prompt": PROMPT, "strength": 0.6, "seed": 8, "quality": "medium"}
    headers = {"authorization": "Bearer sk-local"}
    answer = httpx.post(f"{where}/tweaks", json=body, headers=headers, timeout=60).json()["data"]
    before = shown(first.data[0].b64_json)
    wanted = drawn_by_stock("StableDiffusionXLImg2ImgPipeline", 8, before, strength=0.6)
    assert (shown(answer[0]["b64_json"]) == wanted).all()


def test_a_strength_that_leaves_no_pass_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"0\.1 of 7 passes") as refused:
        client.images.edit(
            image=sent(picture(3)), prompt=PROMPT, quality="medium", extra_body={"strength": 0.1}
        )
    assert refused.value.param == "strength"


def test_several_pictures_are_looked_at_in_their_order(tmp_path: Path) -> None:
    """Of other sizes than what is drawn, none of them cut; and then the answer itself."""
    running = serving(tmp_path, FLUX2, RandomEncoder())
    looked_at = picture(1), picture(2, 96, 64), picture(3, 64, 80)
    case = Case(FLUX2, FLUX2, Task.REFER)
    try:
        with asking(running) as client:
            can = client.models.retrieve("own").capabilities  # type: ignore[attr-defined]
            assert (can["input_images"], can["mask"], can["strength"]) == (16, False, False)
            images = [sent(one) for one in looked_at]
            more: Any = {"prompt": PROMPT, "quality": "medium", "size": "256x256"}
            answer = client.images.edit(image=images, **more, extra_body={"seed": 9})
            again = client.images.edit(image=images[::-1], **more, extra_body={"seed": 9})
            with pytest.raises(openai.BadRequestError, match="does not redraw parts") as refused:
                client.images.edit(image=images, mask=hole(), **more)
            assert refused.value.param == "mask"
            assert answer.data is not None
            assert again.data is not None
            first = answer.data[0]
            url = f"{running.url}v1/images/{first.id}/tweaks"  # type: ignore[attr-defined]
            said = {"delta": "in the rain", "seed": 10, "quality": "medium"}
            headers = {"authorization": "Bearer sk-local"}
            tweaked = httpx.post(url, json=said, headers=headers, timeout=60).json()["data"][0]
    finally:
        running.close()
    asked: Any = {"width": 256, "height": 256, "guidance": GUIDANCE}
    asked |= {"conditioning": conditioning(FLUX2, len(PROMPT)), "seed": 9}
    wanted = stock_picture(case, spec(case, 0, STEPS, references=looked_at, **asked))
    after = shown(first.b64_json)
    assert (after == (wanted * 255).round()).all()
    assert (after != shown(again.data[0].b64_json)).any()
    prompt = conditioning(FLUX2, len(f"{PROMPT}, in the rain"))
    asked |= {"conditioning": prompt, "seed": 10, "references": (after,)}
    wanted = stock_picture(case, spec(case, 0, STEPS, **asked))
    assert (shown(tweaked["b64_json"]) == (wanted * 255).round()).all()


def test_the_text_encoder_looks_at_the_pictures_too(tmp_path: Path) -> None:
    """Of Qwen-Image's edits, which draw nothing from words alone."""
    running = serving(tmp_path, QWEN, FamilyEncoder(folder(QWEN)))
    looked_at = picture(1), picture(2, 96, 64)
    try:
        with asking(running) as client:
            can = client.models.retrieve("own").capabilities  # type: ignore[attr-defined]
            assert (can["input_images"], can["mask"], can["strength"]) == (4, False, False)
            more: Any = {"prompt": PROMPT, "quality": "medium", "size": "256x256"}
            images = [sent(one) for one in looked_at]
            answer = client.images.edit(image=images, **more, extra_body={"seed": 9})
            with pytest.raises(openai.BadRequestError, match="at most 4"):
                client.images.edit(image=images[:1] * 5, **more)
            with pytest.raises(openai.BadRequestError, match="draws along a picture"):
                client.images.generate(**more)
    finally:
        running.close()
    out = stock(QWEN, QWEN)(
        image=[Image.fromarray(one) for one in looked_at],
        prompt=PROMPT,
        negative_prompt="",
        true_cfg_scale=GUIDANCE,
        num_inference_steps=STEPS,
        width=256,
        height=256,
        generator=torch.Generator().manual_seed(9),
        output_type="np",
    )
    assert answer.data is not None
    assert (shown(answer.data[0].b64_json) == (out.images[0] * 255).round()).all()

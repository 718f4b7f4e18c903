"""The official client and the embedded model: gateway, ledger, dispatcher, encoder and decoder in
one process. Only Ray and the screens are missing."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from openai.types.responses.response_output_item import ImageGenerationCall
from PIL import Image

from engine.decoders.masked import MaskedDecoder
from engine.picture import encode
from engine.policy import Look
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.prompt_encoders import PromptEncoders
from engine.verdict import Verdict
from tests.page.pipeline import CONFIG, Pipeline, WordScreen

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "emoji-2"
MODEL = {"name": "embedded", "family": "masked", "size": "256x256"}


class EmbeddedEncoder:
    """See dispatch.ports.Encoder."""

    def __init__(self) -> None:
        self._encoders = PromptEncoders("masked", {"weights": str(WEIGHTS)}, threads=1)

    async def encode(self, words: PromptText) -> EncodedPrompt:
        [encoded] = await asyncio.to_thread(self._encoders.encode, [words])
        return encoded


class PictureScreen(WordScreen):
    """Refuses pictures with a dark left upper corner, and keeps what it has seen."""

    def __init__(self) -> None:
        self.seen: list[NDArray[np.uint8]] = []

    async def screen_image(self, pixels: object, look: Look) -> Verdict:
        assert isinstance(pixels, np.ndarray)
        self.seen.append(pixels)
        dark = bool(pixels[:4, :4].mean() < 80)
        return Verdict(dark, ("weapons",) if dark else ())


@pytest.fixture(scope="module")
def screen() -> PictureScreen:
    return PictureScreen()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, screen: PictureScreen) -> Iterator[str]:
    running = Pipeline(
        tmp_path_factory.mktemp("embedded"),
        {**CONFIG, "model": {**MODEL, "options": {"weights": str(WEIGHTS)}}},
        screen=screen,
        encoder=EmbeddedEncoder(),
        decoder=MaskedDecoder(WEIGHTS, threads=1),
    )
    yield f"{running.url}v1"
    running.close()


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="sk-local", max_retries=0) as made:
        yield made


def test_the_answer_says_what_was_drawn(client: openai.OpenAI) -> None:
    near = client.images.generate(prompt="a spaniel on a yellow background, cartoon", n=2)
    assert near.data is not None
    said = "a dog on a yellow background, cartoon style"
    assert [image.revised_prompt for image in near.data] == [said] * 2
    *_, completed = client.images.generate(prompt="2 kittens and a spaniel", stream=True)
    assert completed.to_dict()["revised_prompt"] == "two cats and a dog"


def test_a_conversation_goes_on_with_what_was_written(client: openai.OpenAI, url: str) -> None:
    """And the answer to each turn says what was drawn."""
    first = client.responses.create(input="a spaniel", tools=[{"type": "image_generation"}])
    second = client.responses.create(
        input="on a yellow background",
        tools=[{"type": "image_generation"}],
        previous_response_id=first.id,
    )
    items = first.output[0], second.output[0]
    assert all(isinstance(item, ImageGenerationCall) for item in items)
    said = [item.to_dict()["revised_prompt"] for item in items]
    assert said == ["a dog", "a dog on a yellow background"]
    job = httpx.get(
        f"{url}/jobs/{second.id.removeprefix('resp_')}",
        headers={"authorization": "Bearer sk-local"},
    )
    assert job.json()["prompt"] == "a spaniel, on a yellow background"


def opened(b64: str | None) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(base64.b64decode(b64 or ""))) as image:
        assert image.mode == "RGBA"
        return np.asarray(image)


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_a_transparent_background_is_a_real_alpha(
    client: openai.OpenAI, output_format: Literal["png", "webp"]
) -> None:
    answer = client.images.generate(
        prompt="a red apple",
        background="transparent",
        output_format=output_format,
        extra_body={"seed": 1},
    )
    assert answer.background == "transparent"
    assert answer.data is not None
    picture = opened(answer.data[0].b64_json)
    assert picture.shape == (256, 256, 4)
    assert not picture[:8, :8].any(), "neither alpha nor a colour beneath it"
    assert (picture[128, 96:160, 3] == 255).all()
    assert (picture[..., 3] == 0).mean() > 0.15


def test_previews_have_alpha_too(client: openai.OpenAI) -> None:
    events = client.images.generate(
        prompt="a fox", background="transparent", stream=True, partial_images=2
    )
    for event in events:
        picture = opened(event.b64_json)
        assert not picture[picture[..., 3] == 0].any()


def test_jpeg_has_no_alpha(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="jpeg has no alpha") as refused:
        client.images.generate(prompt="a", background="transparent", output_format="jpeg")
    assert refused.value.param == "background"


def test_what_goes_on_from_a_transparent_picture_is_transparent(
    client: openai.OpenAI, url: str
) -> None:
    """A tweak, unless it says something else; an edit under a mask, if it says so."""
    first = client.images.generate(
        prompt="a red apple", background="transparent", extra_body={"seed": 1}
    )
    assert first.data is not None
    tweak = f"{url}/images/{first.data[0].to_dict()['id']}/tweaks"
    headers = {"authorization": "Bearer sk-local"}
    green = httpx.post(tweak, json={"prompt": "a green apple"}, headers=headers, timeout=60).json()
    assert green["background"] == "transparent"
    picture = opened(green["data"][0]["b64_json"])
    assert not picture[:8, :8].any()
    red, leaf, _, alpha = picture[150, 128]
    assert (alpha, red < leaf) == (255, True)
    opaque = httpx.post(tweak, json={"background": "opaque"}, headers=headers, timeout=60).json()
    assert opaque["background"] == "opaque"
    mask = np.full((256, 256, 4), 255, np.uint8)
    mask[128:, 128:, 3] = 0
    edited = client.images.edit(
        image=("apple.png", base64.b64decode(first.data[0].b64_json or "")),
        mask=("mask.png", encode(mask, "png")),
        prompt="a star",
        background="transparent",
    )
    assert edited.data is not None
    after = opened(edited.data[0].b64_json)
    assert not after[after[..., 3] == 0].any()
    assert (after[100:124, 80:110, 3] == 255).all(), "what stays is still cut out"


def test_all_that_was_drawn_is_screened_and_what_is_handed_out(
    client: openai.OpenAI, screen: PictureScreen
) -> None:
    screen.seen.clear()
    asked = {"prompt": "a fox on a green background", "background": "transparent"}
    assert client.images.generate(**asked).data  # type: ignore[call-overload]
    *_, beneath, shown = screen.seen
    assert beneath.shape == shown.shape == (128, 128, 3)
    assert shown[:4, :4].min() == 255
    assert beneath[:4, :4].max() < 200
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a fox on a black background", background="transparent")
    assert refused.value.code == "moderation_blocked"

"""The official client and the embedded model: gateway, ledger, dispatcher, encoder and decoder in
one process. Only Ray and the screens are missing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.responses.response_output_item import ImageGenerationCall

from engine.decoders.masked import MaskedDecoder
from engine.prompt_encoder import EncodedPrompt, PromptText
from engine.prompt_encoders import PromptEncoders
from tests.page.pipeline import CONFIG, Pipeline

WEIGHTS = Path(__file__).resolve().parents[2] / "weights" / "emoji-2"
MODEL = {"name": "embedded", "family": "masked", "size": "256x256"}


class EmbeddedEncoder:
    """See dispatch.ports.Encoder."""

    def __init__(self) -> None:
        self._encoders = PromptEncoders("masked", {"weights": str(WEIGHTS)}, threads=1)

    async def encode(self, words: PromptText) -> EncodedPrompt:
        [encoded] = await asyncio.to_thread(self._encoders.encode, [words])
        return encoded


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = Pipeline(
        tmp_path_factory.mktemp("embedded"),
        {**CONFIG, "model": {**MODEL, "options": {"weights": str(WEIGHTS)}}},
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
    near = client.images.generate(prompt="a spaniel on a navy background, cartoon", n=2)
    assert near.data is not None
    said = "a dog on a dark blue background, cartoon style"
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

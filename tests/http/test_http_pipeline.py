"""The official client against the whole pipeline in one process: gateway, ledger, dispatcher and
a real engine of the paced family. Only Ray is missing."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from engine.picture import encode
from tests.golden.test_masked import needs_weights
from tests.http.test_http_embedded import EmbeddedEncoder
from tests.page.pipeline import CONFIG, Pipeline


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    running = Pipeline(tmp_path)
    yield running
    running.close()


@pytest.fixture
def client(pipeline: Pipeline) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{pipeline.url}v1", api_key="sk-local", max_retries=0) as made:
        yield made


def pixels(b64: str | None) -> bytes:
    assert b64 is not None
    picture = Image.open(io.BytesIO(base64.b64decode(b64)))
    assert picture.size == (256, 256)
    return picture.tobytes()


def test_the_same_seed_is_the_same_picture_alone_streamed_or_among_others(
    pipeline: Pipeline, client: openai.OpenAI
) -> None:
    seeded = {"seed": 41}
    alone = client.images.generate(prompt="a red fox", extra_body={"seed": 42})
    four = client.images.generate(prompt="a red fox", n=4, extra_body=seeded)
    assert alone.data is not None
    assert four.data is not None
    assert pixels(alone.data[0].b64_json) == pixels(four.data[1].b64_json)
    pipeline.pace.hold()
    stream = client.images.generate(
        prompt="a red fox", stream=True, partial_images=3, extra_body={"seed": 42}
    )
    events = []
    for passes in (2, 4, 4, 2):  # up to one each, or a preview may be overtaken by a clearer one
        pipeline.pace.step(passes)
        events.append(next(stream))
    events += stream
    assert [event.type.split(".")[1] for event in events] == ["partial_image"] * 3 + ["completed"]
    pictures = [pixels(event.b64_json) for event in events]
    assert len(set(pictures)) == 4, "every preview is a little clearer"
    assert pictures[-1] == pixels(alone.data[0].b64_json)


def test_a_blocked_prompt_never_reaches_the_engine(
    pipeline: Pipeline, client: openai.OpenAI
) -> None:
    pipeline.pace.hold()  # a pass would wait for ever
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a bomb")
    assert refused.value.code == "moderation_blocked"


def test_cancelling_a_running_job_frees_its_slots(
    pipeline: Pipeline, client: openai.OpenAI
) -> None:
    pipeline.pace.hold()
    headers = {"authorization": "Bearer sk-local"}
    url = f"{pipeline.url}v1"
    got = httpx.post(
        f"{url}/images/generations",
        json={"prompt": "a red fox", "n": 4},
        headers={**headers, "prefer": "respond-async"},
    )
    job = f"{url}/jobs/{got.json()['id']}"
    while httpx.get(job, headers=headers).json()["state"] != "running":
        pass
    assert httpx.delete(job, headers=headers).status_code == 200
    # A held job hears of it with its next heartbeat; until then it may still succeed.
    while httpx.get(job, headers=headers).json()["state"] != "cancelled":
        time.sleep(0.01)
    pipeline.pace.go()
    assert client.images.generate(prompt="a blue fox", n=4).data is not None


@pytest.mark.parametrize("family", ["paced", pytest.param("masked", marks=needs_weights)])
def test_outside_of_the_mask_an_edit_is_what_was_sent(tmp_path: Path, family: str) -> None:
    """Through all of it: the decoding process, the ledger, the engine, the postprocessor."""
    noise = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    alpha = np.where(np.arange(320) < 200, 255, 0).astype(np.uint8)
    mask = np.dstack([noise, np.broadcast_to(alpha, (240, 320))])
    encoder = EmbeddedEncoder() if family == "masked" else None
    running = Pipeline(
        tmp_path, {**CONFIG, "model": {"name": "any", "family": family}}, encoder=encoder
    )
    try:
        with openai.OpenAI(
            base_url=f"{running.url}v1", api_key="sk-local", max_retries=0
        ) as asking:
            answer = asking.images.edit(
                image=("fox.png", encode(noise, "png")),
                mask=("mask.png", encode(mask, "png")),
                prompt="a red fox",
                size="320x240",  # type: ignore[arg-type]
            )
    finally:
        running.close()
    assert answer.data is not None
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json or ""))))
    assert (drawn[:, :200] == noise[:, :200]).all()
    assert (drawn[:, 200:] != noise[:, 200:]).any(axis=2).mean() > 0.9

"""From a picture to another over HTTP, through the whole pipeline and a real engine."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from tests.page.pipeline import Pipeline
from tests.stages.pictures import mask, picture

SIZE = (256, 256)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    running = Pipeline(tmp_path_factory.mktemp("pipeline"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def client(pipeline: Pipeline) -> Iterator[openai.OpenAI]:
    url = f"{pipeline.url}v1"
    with openai.OpenAI(base_url=url, api_key="sk-local", max_retries=0) as made:
        yield made


def pixels(b64: str | None) -> Any:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64 or ""))).convert("RGB"))


def test_outside_the_mask_an_edit_changes_nothing(client: openai.OpenAI) -> None:
    sent = picture(SIZE)
    before = np.asarray(Image.open(io.BytesIO(sent)))
    events = list(
        client.images.edit(
            image=sent,
            mask=mask(SIZE),
            prompt="a blue door",
            stream=True,
            partial_images=2,
            quality="max",
        )
    )
    assert [event.type.split(".")[1] for event in events][-1] == "completed"
    for event in events:
        after = pixels(event.b64_json)
        assert (after[128:] == before[128:]).all()
        assert (after[:, 128:] == before[:, 128:]).all()
        assert (after[:128, :128] != before[:128, :128]).any()


def test_tweaks_go_on_and_back(client: openai.OpenAI, pipeline: Pipeline) -> None:
    first = client.images.generate(prompt="a fox", extra_body={"seed": 7})
    assert first.data is not None
    before = pixels(first.data[0].b64_json)
    headers = {"authorization": "Bearer sk-local"}
    with httpx.Client(base_url=pipeline.url, headers=headers, timeout=60) as http:
        where = f"v1/images/{first.data[0].id}"  # type: ignore[attr-defined]
        hole = base64.b64encode(mask(SIZE)).decode()
        body = {"delta": "at night", "mask": f"data:image/png;base64,{hole}"}
        night = http.post(f"{where}/tweaks", json=body).json()["data"][0]
        after = pixels(night["b64_json"])
        assert (after[128:] == before[128:]).all()
        assert (after[:128, :128] != before[:128, :128]).any()
        again = http.post(f"v1/images/{night['id']}/tweaks", json={"strength": 0.1}).json()
        line = http.get(f"v1/images/{again['data'][0]['id']}/lineage").json()
        assert [image["prompt"] for image in line["ancestors"]] == ["a fox", "a fox, at night"]
        undone = http.post(f"{where}/tweaks", json={"strength": 0.1, "seed": 7}).json()
        small = (pixels(undone["data"][0]["b64_json"]) == before).all(axis=2).mean()
        assert small > 0.7, "most cells are those of the first picture"

"""Edits that look at several pictures: how they come in, are kept, charged, let go and refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import httpx
import openai
import pytest

from engine.capabilities import Capabilities
from engine.picture import read_png
from jobs.announcements import Announcement
from jobs.request import SourceImage
from serve_app.orders import lane_models
from tests.stages.http_stage import Stage, config, newest, stage
from tests.stages.ledger_kit import wait_until
from tests.stages.pictures import mask, picture

CAN = Capabilities((128, 128), (8, 8), 5, size_multiple=16)
LOOKER = Announcement(
    lane="default", name="looker", queue="default/looker", aliases=(), family="diffusers",
    capabilities=asdict(CAN), guidance=2.0, size="64x64", qualities={"medium": 7},
    pass_seconds=0.5, identity="0123",
)  # fmt: skip
EDITS = "/v1/images/edits"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with (
        pytest.MonkeyPatch.context() as quick,
        stage(tmp_path_factory.mktemp("looking"), config()) as running,
    ):
        quick.setattr(lane_models, "FOLLOW_SECONDS", 0.01)
        running.ledger.announce(LOOKER, ready=True)
        running.worker.queues.append(LOOKER.queue)
        where = f"{running.url}/v1/models/looker"
        wait_until(
            lambda: httpx.get(where, headers=running.headers).status_code == 200, "it is known"
        )
        yield running


def source_of(running: Stage) -> SourceImage:
    source = newest(running).request.source
    assert source is not None
    return source


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def kept(running: Stage) -> int:
    """Prepared pictures that are still held."""
    return len(running.ledger.stale_files(1000, "local")) - len(running.ledger.stale_files(1000))


def test_they_are_kept_in_their_order_small_and_whole(client: openai.OpenAI, shared: Stage) -> None:
    shared.worker.pause()
    images = [picture(), picture((256, 128), colour="#00ff00"), picture((80, 64), "JPEG")]
    form = {"prompt": "together", "model": "looker"}
    files = [("image[]", ("a.png", image)) for image in images]
    asynchronous = {**shared.headers, "prefer": "respond-async"}
    got = httpx.post(f"{shared.url}{EDITS}", data=form, files=files, headers=asynchronous)
    assert got.status_code == 202, got.text
    source = source_of(shared)
    seen = [read_png(shared.blobs.get(key)) for key in source.references]
    assert [one.shape for one in seen] == [(64, 64, 3), (90, 181, 3), (64, 80, 3)]
    assert tuple(seen[1][-1, -1]) == (0, 255, 0)
    assert (source.canvas, source.small, source.images, source.parent) == (None, None, 3, None)
    request = newest(shared).request
    assert (request.width, request.height, request.passes) == (64, 64, 7)
    assert request.cost_seconds == 7 * 0.5 * 4, "each is about as much work as what is drawn"
    assert kept(shared) == 1
    shared.worker.resume()
    wait_until(lambda: kept(shared) == 0, "they go with their job")


def test_json_names_them_and_usage_counts_them(http: httpx.Client, shared: Stage) -> None:
    first = http.post("/v1/images/generations", json={"prompt": "a", "model": "looker"}).json()
    image = first["data"][0]["id"]
    images = [{"file_id": image}, {"image_url": data_url(picture((96, 64)))}]
    body = {"prompt": "together", "images": images, "size": "auto", "model": "looker"}
    answer = http.post(EDITS, json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] == 2 * CAN.cells
    assert source_of(shared).parent == image
    line = http.get(f"/v1/images/{answer.json()['data'][0]['id']}/lineage").json()
    assert [one["id"] for one in line["ancestors"]] == [image]
    tweak = http.post(f"/v1/images/{image}/tweaks", json={"delta": "at night"})
    assert tweak.status_code == 200, tweak.text
    assert (len(source_of(shared).references), source_of(shared).parent) == (1, image)


def test_a_retry_says_the_same_pictures_in_the_same_order(
    http: httpx.Client, shared: Stage
) -> None:
    one, other = picture(), picture(colour="#ff0000")
    form = {"prompt": "together", "model": "looker"}
    headers = {"idempotency-key": "looking"}
    found = [
        http.post(EDITS, data=form, files=[("image[]", image) for image in images], headers=headers)
        for images in ((one, other), (one, other), (other, one))
    ]
    assert [answer.status_code for answer in found] == [200, 200, 422]


URL = {"image_url": "https://example.com/a.png"}


@pytest.mark.parametrize(
    ("images", "more", "param", "said"),
    [
        ([picture()] * 6, {}, "image", "6 images, this model takes at most 5"),
        ([picture()], {"mask": mask()}, "mask", "does not redraw parts"),
        ([picture(), picture((40, 40))], {}, "image", "40x40"),
        ([picture(), b"GIF89a" + b"\0" * 50], {}, "image", "GIF"),
    ],
)
def test_what_a_form_brings_too_much_is_named(
    http: httpx.Client, shared: Stage, images: list[bytes], more: Any, param: str, said: str
) -> None:
    before = shared.rows()
    files = [*(("image[]", image) for image in images), *more.items()]
    answer = http.post(EDITS, data={"prompt": "a", "model": "looker"}, files=files)
    problem = answer.json()["error"]
    assert (answer.status_code, problem["param"]) == (400, param)
    assert said in problem["message"]
    assert shared.rows() == before


def test_a_model_that_takes_one_says_so_of_sixteen(http: httpx.Client) -> None:
    files = [("image[]", picture())] * 16
    problem = http.post(EDITS, data={"prompt": "a", "model": "test-model"}, files=files).json()
    assert problem["error"]["param"] == "image"
    assert "16 images, this model takes at most 1" in problem["error"]["message"]


@pytest.mark.parametrize(
    ("images", "said"), [([URL] * 4, "At most 3"), ([{"file_id": "file-x"}] * 17, "at most 16")]
)
def test_what_json_brings_too_much_is_named(
    http: httpx.Client, images: list[dict[str, str]], said: str
) -> None:
    problem = http.post(EDITS, json={"prompt": "a", "model": "looker", "images": images}).json()
    assert problem["error"]["param"] == "images"
    assert said in problem["error"]["message"]


def test_a_model_that_draws_along_a_picture_alone_names_the_way(
    http: httpx.Client, shared: Stage
) -> None:
    said = replace(
        LOOKER, name="along", queue="default/along", capabilities=asdict(replace(CAN, draws=False))
    )
    shared.ledger.announce(said, ready=True)
    wait_until(lambda: http.get("/v1/models/along").status_code == 200, "it is known")
    answer = http.post("/v1/images/generations", json={"prompt": "a", "model": "along"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model")

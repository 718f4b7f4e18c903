"""Going on from one's own pictures over HTTP: tweaks, lineage, and whose they are."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from engine.picture import read_png
from engine.region import from_hex
from jobs.retention import Retention, Step
from tests.stages.http_stage import Stage, config, newest, stage
from tests.stages.pictures import mask

CELLS = 64


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("tweaks"), config()) as running:
        yield running


@pytest.fixture
def fox(http: httpx.Client) -> str:
    wishes = {"seed": 7, "size": "128x64", "output_format": "webp", "quality": "high"}
    return made(http.post("/v1/images/generations", json={"prompt": "a fox", **wishes}))


def made(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"][0]["id"])


def tweak(http: httpx.Client, image_id: str, **wishes: Any) -> httpx.Response:
    return http.post(f"/v1/images/{image_id}/tweaks", json=wishes)


def test_other_words_for_the_same_picture(http: httpx.Client, fox: str, shared: Stage) -> None:
    answer = tweak(http, fox, prompt="a red fox", seed=3)
    made(answer)
    body, request = answer.json(), newest(shared).request
    assert (body["size"], body["quality"], body["output_format"]) == ("128x64", "high", "webp")
    assert "revised_prompt" not in body["data"][0]
    source = request.source
    assert source is not None
    assert (request.prompt, request.seed, source.parent) == ("a red fox", 3, fox)
    assert from_hex(source.redraw, CELLS).sum() == 51
    canvas = read_png(shared.blobs.get(source.canvas))
    assert canvas.shape == (64, 128, 4)
    assert (canvas[..., 3] == 0).all()
    assert source.tokens == base64.b64encode(b"tokens of 7").decode(), "no upload, no loss"


def test_a_delta_is_added_to_the_words(http: httpx.Client, fox: str, shared: Stage) -> None:
    answer = tweak(http, fox, delta="at night", n=2, output_format="png", size="64x64")
    body = answer.json()
    assert [image["revised_prompt"] for image in body["data"]] == ["a fox, at night"] * 2
    source = newest(shared).request.source
    assert source is not None
    assert source.tokens is None, "another shape: what was drawn is cut"
    events = tweak(http, fox, delta="at night", stream=True, partial_images=1).text
    assert "event: image_edit.partial_image" in events
    assert '"revised_prompt":"a fox, at night"' in events


def test_no_words_at_all_is_a_variation(http: httpx.Client, fox: str, shared: Stage) -> None:
    found = []
    for wishes in ({"seed": 1}, {"seed": 1}, {"seed": 2}, {"seed": 1, "strength": 0.25}):
        made(tweak(http, fox, **wishes))
        request = newest(shared).request
        assert request.source is not None
        assert request.prompt == "a fox"
        found.append(from_hex(request.source.redraw, CELLS))
    assert (found[0] == found[1]).all()
    assert (found[0] != found[2]).any()
    assert [int(cells.sum()) for cells in found] == [32, 32, 32, 16]
    assert made(http.post(f"/v1/images/{fox}/tweaks"))


def test_a_mask_says_where(http: httpx.Client, fox: str, shared: Stage) -> None:
    hole = mask((128, 64), (0, 0, 32, 64))
    url = f"data:image/png;base64,{base64.b64encode(hole).decode()}"
    for form in (url, {"image_url": url}):
        made(tweak(http, fox, prompt="a cat", mask=form))
        source = newest(shared).request.source
        assert source is not None
        cells = from_hex(source.redraw, CELLS).reshape(8, 8)
        assert cells[:, :2].all()
        assert not cells[:, 2:].any()


def test_the_lineage_goes_from_the_first_to_the_last(http: httpx.Client, fox: str) -> None:
    night = made(tweak(http, fox, delta="at night"))
    rain = made(tweak(http, night, delta="in the rain"))
    snow = made(tweak(http, night, delta="in snow"))
    undone = made(tweak(http, fox, delta="by day"))
    line = http.get(f"/v1/images/{rain}/lineage").json()
    assert [image["id"] for image in line["ancestors"]] == [fox, night]
    assert line["image"]["prompt"] == "a fox, at night, in the rain"
    assert line["children"] == []
    middle = http.get(f"/v1/images/{night}/lineage").json()
    assert [image["id"] for image in middle["children"]] == [rain, snow]
    first = http.get(f"/v1/images/{fox}/lineage").json()
    assert (first["ancestors"], first["image"]["parent"]) == ([], None)
    assert [image["id"] for image in first["children"]] == [night, undone]
    assert {image["parent"] for image in first["children"]} == {fox}


def test_a_picture_tells_how_it_came_to_be(http: httpx.Client, fox: str, shared: Stage) -> None:
    shown = http.get(f"/v1/images/{fox}").json()
    assert (shown["object"], shown["prompt"], shown["seed"]) == ("image", "a fox", 7)
    assert httpx.get(shown["url"]).headers["content-type"] == "image/webp"
    assert "redraw" not in shown
    changed = http.get(f"/v1/images/{made(tweak(http, fox))}").json()
    assert (changed["parent"], changed["cells_redrawn"]) == (fox, 32)
    assert changed["job_id"] == newest(shared).id


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"prompt": "a", "delta": "b"}, "delta"),
        ({"delta": " "}, "delta"),
        ({"prompt": ""}, "prompt"),
        ({"strength": 0}, "strength"),
        ({"strength": "much"}, "strength"),
        ({"images": []}, "images"),
        ({"input_fidelity": "low"}, "input_fidelity"),
        ({"mask": "file-0"}, "mask"),
        ({"mask": "nonsense"}, "mask"),
        ({"mask": 3}, "mask"),
        ({"colour": "red"}, "colour"),
        ({"output_compression": 101}, "output_compression"),
    ],
)
def test_what_is_wrong_is_named(
    http: httpx.Client, fox: str, wishes: dict[str, Any], param: str
) -> None:
    answer = tweak(http, fox, **wishes)
    assert answer.status_code in (400, 404), answer.text
    assert answer.json()["error"]["param"].startswith(param)


def test_pictures_of_others_do_not_exist(http: httpx.Client, fox: str, shared: Stage) -> None:
    other = {"authorization": "Bearer sk-other"}
    for image_id in (fox, f"{fox[:-1]}5", "img_", "img_%00", f"img_{'0' * 32}_0"):
        path = f"/v1/images/{image_id}"
        answers = [
            http.get(path, headers=other),
            http.get(f"{path}/lineage", headers=other),
            http.post(f"{path}/tweaks", json={}, headers=other),
        ]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert {answer.json()["error"]["code"] for answer in answers} == {"image_not_found"}
        assert httpx.get(shared.url + path).status_code == 401
    assert http.get("/v1/images/edits").status_code == 405


def test_a_forgotten_picture_says_so(tmp_path: Any) -> None:
    with (
        stage(tmp_path, config()) as running,
        httpx.Client(base_url=running.url, headers=running.headers, timeout=60) as http,
    ):
        fox = made(http.post("/v1/images/generations", json={"prompt": "a fox"}))
        batch = running.ledger.retire("default", Step.IMAGES, Retention(images_seconds=0.0))
        assert batch is not None
        running.ledger.retired("default", batch)
        answer = tweak(http, fox)
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "image_expired")
        body = {"prompt": "a", "images": [{"file_id": fox}]}
        assert http.post("/v1/images/edits", json=body).status_code == 410
        assert http.get(f"/v1/images/{fox}").json()["url"] is None
        assert http.get(f"/v1/images/{fox}/lineage").status_code == 200


def test_a_retry_of_a_tweak_is_the_same_job(http: httpx.Client, fox: str) -> None:
    headers = {"idempotency-key": "a-tweak"}
    first, second = (
        http.post(f"/v1/images/{fox}/tweaks", json={"delta": "at night"}, headers=headers)
        for _ in range(2)
    )
    assert first.headers["x-job-id"] == second.headers["x-job-id"]
    elsewhere = http.post(f"/v1/images/{made(first)}/tweaks", json={}, headers=headers)
    assert elsewhere.status_code == 422

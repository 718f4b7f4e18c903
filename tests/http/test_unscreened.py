"""Nothing unscreened leaves: every route of the API is walked, and each picture in an answer is one
that the classifier has allowed. A new route has to say here how it is asked."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import openai
import pytest
from PIL import Image

from engine.picture import encode, resize
from engine.policy import Look, ScreenStage
from engine.render import Pixels
from engine.verdict import Verdict
from serve_app.api import routes
from tests.page.pipeline import CONFIG, Pipeline, WordScreen

SIDE = 256
PNG = re.compile(rb"iVBORw0KGgo[A-Za-z0-9+/=]+")
AS_GOOD_AS_EQUAL = 3.0
"""Mean difference of two pictures that show the same, 0..255: marks may change pixels a little."""
UPLOAD = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


class WatchedScreen(WordScreen):
    """Keeps what it allowed. `bad`: whether something is blocked."""

    def __init__(self) -> None:
        self.allowed: list[Pixels] = []
        self.bad: Callable[[Pixels, Look], bool] = lambda pixels, look: False

    async def screen_image(self, pixels: Pixels, look: Look) -> Verdict:  # type: ignore[override]
        """A verdict on a picture."""
        if self.bad(pixels, look):
            return Verdict(True, ("sexual",))
        self.allowed.append(resize(pixels, SIDE, SIDE))
        return Verdict(blocked=False)

    def has_allowed(self, file: bytes) -> bool:
        """Whether that file shows something that was looked at."""
        shown = np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)
        return any(np.abs(shown - one).mean() < AS_GOOD_AS_EQUAL for one in self.allowed)


@pytest.fixture(scope="module")
def screen() -> WatchedScreen:
    return WatchedScreen()


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, screen: WatchedScreen) -> Iterator[Pipeline]:
    tiers = {"tiers": {"free": {"images_per_day": 1000}}, "temporary_limits": []}
    running = Pipeline(tmp_path_factory.mktemp("unscreened"), CONFIG | tiers, screen)
    yield running
    running.close()


@pytest.fixture
def http(pipeline: Pipeline) -> Iterator[httpx.Client]:
    key = {"authorization": "Bearer sk-local"}
    with httpx.Client(base_url=pipeline.url, headers=key, timeout=120) as made:
        yield made


def key_for(path: str) -> dict[str, str]:
    """An operator's where one is asked for."""
    operators = path.startswith(("/v1/operator", "/v1/organization"))
    return {"authorization": "Bearer sk-ops"} if operators else {}


class Walk:
    """Asks every route once, and again after a job that ended as the screen wills."""

    def __init__(self, http: httpx.Client, image: str) -> None:
        self._http = http
        self.image, self.job = image, image.removeprefix("img_").rpartition("_")[0]
        upload = {"file": ("fox.png", encode(UPLOAD, "png"))}
        answer = http.post("/v1/files", data={"purpose": "vision"}, files=upload)
        self.file = answer.json()["id"]
        called = {"type": "image_generation", "size": f"{SIDE}x{SIDE}"}
        turn = http.post("/v1/responses", json={"input": "a fox in a den", "tools": [called]})
        self.response = turn.json()["id"]
        self.prompts = 0

    def ask(self, method: str, path: str) -> list[httpx.Response]:
        """KeyError for a route that nothing here knows."""
        if path == "/v1/content_provenance_checks":
            given = {"file": ("fox.png", encode(UPLOAD, "png"), "image/png")}
            return [self._http.post(path, files=given)]
        if method == "post":
            return [
                self._http.post(self._at(path), json=body, headers=key_for(path))
                for body in self._bodies(path)
            ]
        if path == "/v1/jobs/{job_id}/images/{index}":
            self._http.head(self._at(path))
        return [self._http.request(method, self._at(path), headers=key_for(path))]

    def _at(self, path: str) -> str:
        return path.format(image_id=self.image, job_id=self.job, index=0, file_id=self.file,
                           response_id=self.response, batch_id="batch_" + "0" * 32,
                           name="meltproof-paced", webhook_endpoint_id="none")  # fmt: skip

    def _bodies(self, path: str) -> list[dict[str, object]]:
        self.prompts += 1
        wish: dict[str, object] = {"size": f"{SIDE}x{SIDE}", "seed": self.prompts, "n": 2}
        streamed = {"stream": True, "partial_images": 3}
        said = wish | {"prompt": f"a fox number {self.prompts}"}
        source = {"images": [{"file_id": self.file}]}
        tool = {"type": "image_generation", "size": f"{SIDE}x{SIDE}", "partial_images": 3}
        turn: dict[str, object] = {"input": "at night", "tools": [tool]}
        turn |= {"previous_response_id": self.response}
        bodies: dict[str, list[dict[str, object]]] = {
            "/v1/images/generations": [said, said | streamed],
            "/v1/images/edits": [said | source, said | source | streamed],
            "/v1/images/{image_id}/tweaks": [wish | {"delta": "at night"}, wish | streamed],
            "/v1/images/variations": [{}],
            "/v1/responses": [turn, {**turn, "stream": True}],
            "/v1/responses/{response_id}/cancel": [{}],
            "/v1/files": [{}],
            "/v1/batches": [{}],
            "/v1/batches/{batch_id}/cancel": [{}],
            "/v1/webhook_endpoints": [{}],
            "/v1/webhook_endpoints/{webhook_endpoint_id}": [{}],
            "/v1/webhook_endpoints/{webhook_endpoint_id}/rotate_secret": [{}],
            "/v1/webhook_endpoints/{webhook_endpoint_id}/test": [{}],
            "/v1/webhook_endpoints/{webhook_endpoint_id}/redeliver": [{}],
            "/v1/content_provenance_checks": [{}],
            "/v1/operator/jobs/{job_id}/cancel": [{}],
            "/v1/operator/jobs/{job_id}/requeue": [{}],
        }
        return bodies[path]


def documented() -> list[tuple[str, str]]:
    """Every route, those last that take something away."""
    every = [(method, path) for path, methods in routes()["paths"].items() for method in methods]
    return sorted(every, key=lambda route: route[0] == "delete")


def pictures(answer: httpx.Response) -> list[bytes]:
    """Every picture in an answer, whatever it is packed in."""
    if answer.headers.get("content-type", "").startswith("image/"):
        return [answer.content]
    return [base64.b64decode(one) for one in PNG.findall(answer.content)]


def ordered(http: httpx.Client, prompt: str) -> str:
    """The first image's id of a job with previews that has ended."""
    wish = {"prompt": prompt, "size": f"{SIDE}x{SIDE}", "stream": True, "partial_images": 3}
    assert http.post("/v1/images/generations", json=wish).is_success
    return f"img_{http.get('/v1/jobs').json()['data'][0]['id']}_0"


def test_every_picture_in_every_answer_was_allowed(
    http: httpx.Client, screen: WatchedScreen
) -> None:
    walk = Walk(http, ordered(http, "a fox"))
    given: dict[tuple[str, str], int] = {}
    for method, path in documented():
        found = [one for answer in walk.ask(method, path) for one in pictures(answer)]
        given[method, path] = len(found)
        if path != "/v1/files/{file_id}/content":  # what the tenant has sent itself
            assert all(screen.has_allowed(one) for one in found), (method, path)
    assert {route for route, count in given.items() if count} == {
        ("post", "/v1/images/generations"),
        ("post", "/v1/images/edits"),
        ("post", "/v1/images/{image_id}/tweaks"),
        ("post", "/v1/responses"),
        ("get", "/v1/responses/{response_id}"),
        ("get", "/v1/jobs/{job_id}/events"),
        ("get", "/v1/jobs/{job_id}/images/{index}"),
        ("get", "/v1/files/{file_id}/content"),
    }
    assert given["post", "/v1/images/generations"] == 2 + 2 * (1 + 3)
    assert not screen.has_allowed(encode(UPLOAD[::-1], "png")), "the comparison can fail"


def test_of_a_blocked_picture_no_route_gives_anything(
    http: httpx.Client, screen: WatchedScreen
) -> None:
    screen.bad = lambda pixels, look: look.stage is ScreenStage.FINAL
    walk = Walk(http, ordered(http, "a hare"))
    for method, path in documented():
        for answer in walk.ask(method, path):
            if path == "/v1/files/{file_id}/content":
                continue
            found = pictures(answer)
            assert all(screen.has_allowed(one) for one in found), "previews, before the end"
            assert not found or method == "post", (method, path)
            if "images" in path and "stream" not in answer.request.content.decode():
                assert answer.is_error, (method, path, answer.text)
    screen.bad = lambda pixels, look: False


def test_a_bad_preview_ends_the_stream_at_once_with_the_reason(
    pipeline: Pipeline, screen: WatchedScreen
) -> None:
    screen.bad = lambda pixels, look: look.stage is ScreenStage.PREVIEW and look.share > 0.3
    with openai.OpenAI(base_url=f"{pipeline.url}v1", api_key="sk-local", max_retries=0) as asking:
        pipeline.pace.hold()
        stream = asking.images.generate(
            prompt="a stoat", stream=True, partial_images=3, extra_body={"seed": 5}
        )
        pipeline.pace.step(3)
        assert next(stream).type == "image_generation.partial_image"
        pipeline.pace.step(3)
        with pytest.raises(openai.APIError) as ended:
            next(stream)
    pipeline.pace.go()
    screen.bad = lambda pixels, look: False
    assert (ended.value.code, ended.value.type) == (
        "moderation_blocked", "image_generation_user_error",
    )  # fmt: skip
    assert isinstance(ended.value.body, dict)
    assert ended.value.body["moderation_details"] == {
        "moderation_stage": "output", "categories": ["sexual"],
    }  # fmt: skip

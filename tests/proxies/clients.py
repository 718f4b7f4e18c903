"""Clients that note what happens to them on the way to their pictures."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import openai

from engine.picture import encode

KEY = {"authorization": "Bearer sk-local"}
SECONDS = 180.0
_noise = np.random.default_rng(7).integers(0, 256, (400, 400, 3), np.uint8)
FOX = ("fox.png", encode(_noise, "png"), "image/png")
"""A picture to edit, larger than what proxies keep of a body."""


class Official:
    """The official client as it comes: two retries, no Idempotency-Key. statuses: of its answers.
    Its pictures come from a thread."""

    def __init__(self, url: str, max_retries: int = openai.DEFAULT_MAX_RETRIES) -> None:
        self.statuses: list[int] = []
        transport = openai.DefaultHttpxClient(event_hooks={"response": [self._note]})
        self._client = openai.OpenAI(
            base_url=f"{url}/v1",
            api_key="sk-local",
            http_client=transport,
            max_retries=max_retries,
        )
        self._thread = ThreadPoolExecutor(1)

    def _note(self, response: httpx.Response) -> None:
        self.statuses.append(response.status_code)

    def generate(self, **wish: Any) -> None:
        """Begin to ask; `pictures` has the answer."""
        generate = self._client.images.generate
        self._asked = self._thread.submit(generate, prompt="a red fox", **wish)

    def edit(self, **wish: Any) -> None:
        """The same, for a form with a picture."""
        edit = self._client.images.edit
        self._asked = self._thread.submit(edit, image=FOX, prompt="a blue fox", **wish)

    def pictures(self) -> list[bytes]:
        """What came in the end. Raises what the client raised."""
        answer = self._asked.result(SECONDS)
        assert answer.data is not None
        return [base64.b64decode(image.b64_json or "") for image in answer.data]

    def close(self) -> None:
        """End its connections."""
        self._thread.shutdown(cancel_futures=True)
        self._client.close()


@contextmanager
def event_stream(
    url: str, method: str, path: str, headers: dict[str, str] | None = None, **rest: Any
) -> Iterator[tuple[httpx.Response, Iterator[dict[str, str]]]]:
    """The answer and its events as they come, fields by name; a comment has an empty one."""
    with (
        httpx.Client(base_url=url, headers=KEY, timeout=SECONDS) as http,
        http.stream(method, path, headers=headers, **rest) as answer,
    ):
        yield answer, _events(answer.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            event[name] = value.strip()
        else:
            yield event
            event = {}


def data(event: dict[str, str]) -> Any:
    """What an event says."""
    return json.loads(event["data"])


def submitted(url: str, **wish: Any) -> str:
    """The id of a new async job."""
    body = {"prompt": "a later fox", **wish}
    headers = {**KEY, "prefer": "respond-async"}
    answer = httpx.post(f"{url}/v1/images/generations", json=body, headers=headers, timeout=SECONDS)
    return str(answer.json()["id"])


def until(met: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + SECONDS
    while not met():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)

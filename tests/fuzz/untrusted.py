"""Every hostile file through every door: refused with a reason, or a picture after all, by every
door alike. Every prompt that is built to take time: accepted, or refused by name. The service goes
on."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import httpx

from tests.fuzz.texts import PLACES

HEADERS = {"authorization": "Bearer sk-fuzz"}
ASKED = {"prompt": "a red fox", "quality": "low"}


def _edit_form(client: httpx.Client, name: str, data: bytes) -> httpx.Response:
    files = {"image": (name, data)}
    return client.post("/v1/images/edits", data=ASKED, files=files)


def _edit_json(client: httpx.Client, _name: str, data: bytes) -> httpx.Response:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    body = {**ASKED, "images": [{"image_url": url}]}
    return client.post("/v1/images/edits", json=body)


def _upload(client: httpx.Client, name: str, data: bytes) -> httpx.Response:
    return client.post("/v1/files", data={"purpose": "vision"}, files={"file": (name, data)})


def _turn(client: httpx.Client, _name: str, data: bytes) -> httpx.Response:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": url}]
    tool = {"type": "image_generation", "quality": "low"}
    said = [{"role": "user", "content": parts}]
    body = {"input": said, "tools": [tool], "background": True}
    return client.post("/v1/responses", json=body)


DOORS: Mapping[str, Callable[[httpx.Client, str, bytes], httpx.Response]] = {
    "files": _upload,
    "edits, multipart": _edit_form,
    "edits, data URL": _edit_json,
    "responses, data URL": _turn,
}


@dataclass(slots=True)
class Refusals:
    """files: that were refused. pictures: what was damaged so little, or only odd, that it is one.
    wrong: what was answered otherwise, in words."""

    files: int = 0
    pictures: int = 0
    requests: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def order(url: str, texts: Mapping[str, str], *, quick: bool) -> Refusals:
    """Each in every place, or in quick runs each in one; files and pictures stay 0. JSON may hold
    NUL and lone surrogates, we do not."""
    found = Refusals()
    with httpx.Client(base_url=url, headers=HEADERS, timeout=60, trust_env=False) as client:
        for number, (name, text) in enumerate(texts.items()):
            places = list(PLACES.items())
            for place, say in [places[number % len(places)]] if quick else places:
                found.requests += 1
                _taken(found, f"{name} ({place})", lambda: say(client, text))  # noqa: B023
            _judge_health(found, name, client)
    return found


def send(url: str, files: Iterable[tuple[str, bytes]]) -> Refusals:
    """All of them."""
    found = Refusals()
    with httpx.Client(base_url=url, headers=HEADERS, timeout=60, trust_env=False) as client:
        for name, data in files:
            answers = set[bool]()
            for door, knock in DOORS.items():
                found.requests += 1
                answers.add(_taken(found, f"{name} ({door})", lambda: knock(client, name, data)))  # noqa: B023
            _judge_health(found, name, client)
            found.pictures += answers == {True}
            found.files += answers == {False}
            if len(answers) > 1:
                found.wrong.append(f"{name}: a picture by one door and refused by another")
    return found


def _taken(found: Refusals, what: str, ask: Callable[[], httpx.Response]) -> bool:
    """Whether it was taken for a picture."""
    try:
        answer = ask()
        body = answer.json()
        code = f"{answer.status_code} {'' if answer.is_success else body['error']['code']}".strip()
    except (httpx.HTTPError, ValueError, KeyError) as error:
        found.wrong.append(f"{what}: {error!r}")
        return False
    found.codes[code] = found.codes.get(code, 0) + 1
    if answer.is_success:
        return True
    problem = body["error"]
    if not (400 <= answer.status_code < 500 and problem["message"] and problem["code"]):
        found.wrong.append(f"{what}: {code} {problem['message']}")
    return False


def _judge_health(found: Refusals, name: str, client: httpx.Client) -> None:
    try:
        client.get("/readyz").raise_for_status()
    except httpx.HTTPError as error:
        found.wrong.append(f"after {name}: {error!r}")

"""Every hostile file through every door: refused with a reason, and the service goes on."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import httpx

HEADERS = {"authorization": "Bearer sk-fuzz"}
PROMPT = "a red fox"


def _edit_form(client: httpx.Client, name: str, data: bytes) -> httpx.Response:
    files = {"image": (name, data)}
    return client.post("/v1/images/edits", data={"prompt": PROMPT}, files=files)


def _edit_json(client: httpx.Client, _name: str, data: bytes) -> httpx.Response:
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    body = {"prompt": PROMPT, "images": [{"image_url": url}]}
    return client.post("/v1/images/edits", json=body)


def _upload(client: httpx.Client, name: str, data: bytes) -> httpx.Response:
    return client.post("/v1/files", data={"purpose": "vision"}, files={"file": (name, data)})


DOORS: Mapping[str, Callable[[httpx.Client, str, bytes], httpx.Response]] = {
    "edits, multipart": _edit_form,
    "edits, data URL": _edit_json,
    "files": _upload,
}


@dataclass(slots=True)
class Refusals:
    """wrong: what was not refused as it ought to be, in words."""

    files: int = 0
    requests: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def send(url: str, files: Iterable[tuple[str, bytes]]) -> Refusals:
    """All of them."""
    found = Refusals()
    with httpx.Client(base_url=url, headers=HEADERS, timeout=60) as client:
        for name, data in files:
            found.files += 1
            for door, knock in DOORS.items():
                found.requests += 1
                _judge(found, f"{name} ({door})", lambda: knock(client, name, data))  # noqa: B023
            _judge_health(found, name, client)
    return found


def _judge(found: Refusals, what: str, ask: Callable[[], httpx.Response]) -> None:
    try:
        answer = ask()
        problem = answer.json()["error"]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        found.wrong.append(f"{what}: {error!r}")
        return
    code = f"{answer.status_code} {problem['code']}"
    found.codes[code] = found.codes.get(code, 0) + 1
    if not (400 <= answer.status_code < 500 and problem["message"] and problem["code"]):
        found.wrong.append(f"{what}: {code} {problem['message']}")


def _judge_health(found: Refusals, name: str, client: httpx.Client) -> None:
    try:
        client.get("/readyz").raise_for_status()
    except httpx.HTTPError as error:
        found.wrong.append(f"after {name}: {error!r}")

"""Bodies of forms, which come in chunks that the network chooses."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from serve_app.config.sections import LimitsSection
from serve_app.orders.bodies import LOOKED_AT_BYTES, body_chunks
from serve_app.wire.errors import BodyTooLarge

MOST_BYTES = 5_000
LINES_BYTES = 20_000
LIMITS = LimitsSection(body_bytes=MOST_BYTES)


def form(purpose: str, filename: str, size: int) -> bytes:
    head = (
        f'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n{purpose}\r\n'
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
    )
    return head.encode() + b"x" * size + b"\r\n--b--\r\n"


def read(body: bytes, first_bytes: int, declared: bool = True) -> bytes:
    parts = [body[:first_bytes], body[first_bytes:]]
    if first_bytes == 1:
        parts = [body[start : start + 1] for start in range(len(body))]
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    messages[-1]["more_body"] = False

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-length", str(len(body)).encode())] if declared else []
    request = Request({"type": "http", "headers": headers, "state": {}}, receive)

    async def whole() -> bytes:
        chunks = body_chunks(request, LIMITS, MOST_BYTES, LINES_BYTES)
        return b"".join([chunk async for chunk in chunks])

    return asyncio.run(whole())


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("first_bytes", [0, 1, 40, 75, LOOKED_AT_BYTES, 10_000])
@pytest.mark.parametrize(("purpose", "filename"), [("batch", "a.txt"), ("vision", "a.jsonl")])
def test_a_file_of_lines_may_be_large_however_its_form_is_cut(
    purpose: str, filename: str, first_bytes: int, declared: bool
) -> None:
    body = form(purpose, filename, 15_000)
    assert read(body, first_bytes, declared) == body


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("first_bytes", [0, 1, 40, LOOKED_AT_BYTES, 10_000])
def test_a_picture_has_the_limit_of_pictures(first_bytes: int, declared: bool) -> None:
    with pytest.raises(BodyTooLarge, match=str(MOST_BYTES)):
        read(form("vision", "a.png", 6_000), first_bytes, declared)
    small = form("vision", "a.png", 4_000)
    assert read(small, first_bytes, declared) == small


@pytest.mark.parametrize("first_bytes", [1, 40, 10_000])
def test_a_file_of_lines_has_a_limit_too(first_bytes: int) -> None:
    with pytest.raises(BodyTooLarge, match=str(MOST_BYTES + LINES_BYTES)):
        read(form("batch", "a.jsonl", 30_000), first_bytes)


def test_the_purpose_is_looked_for_at_the_beginning_alone() -> None:
    hidden = b"x" * LOOKED_AT_BYTES + form("batch", "a.jsonl", 4_000)
    with pytest.raises(BodyTooLarge, match=str(MOST_BYTES)):
        read(hidden, 1)

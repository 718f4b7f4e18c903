"""One try to deliver a webhook, to real servers that do not behave."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme

from serve_app.config.webhooks import WebhooksSection
from serve_app.webhooks import sending
from serve_app.webhooks.sending import READ_BYTES, SendResult, send

HERE = WebhooksSection(networks=("127.0.0.0/8",))
TAKEN = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
NOT_PUBLIC = "its host has an address that is not public"


@dataclass
class Server:
    port: int
    heard: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    answers: Sequence[str] = ("127.0.0.1",)

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers

    async def send(
        self, section: WebhooksSection = HERE, scheme: str = "http", **seams: Any
    ) -> SendResult:
        """By the name hooks.test, which this server's own resolver knows."""
        url = f"{scheme}://hooks.test:{self.port}/a%20hook?b=c"
        return await send(url, b"{}", {"webhook-id": "e"}, section, resolve=self.resolve, **seams)


@asynccontextmanager
async def server(answer: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Says `answer`, and then nothing, with the connection open."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            here.heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(answer)
            await reader.read()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    asked: set[asyncio.Task[None] | None] = set()
    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    here = Server(running.sockets[0].getsockname()[1])
    try:
        yield here
    finally:
        running.close()
        await asyncio.gather(*(task for task in asked if task is not None))


async def test_the_request_names_the_host_and_goes_to_the_address_that_was_checked() -> None:
    async with server(TAKEN) as here:
        assert await here.send() == SendResult(200, None)
        assert here.asked == ["hooks.test"], "resolved once"
        (request,) = here.heard
    lines = request.strip().split("\r\n")
    assert lines[0] == "POST /a%20hook?b=c HTTP/1.1"
    assert f"host: hooks.test:{here.port}" in [line.lower() for line in lines]


@pytest.mark.parametrize("answers", [("10.0.0.1",), ("127.0.0.1", "10.0.0.1"), ("::1",), ()])
async def test_one_address_that_is_not_allowed_is_enough(answers: Sequence[str]) -> None:
    async with server(TAKEN) as here:
        here.answers = answers
        assert await here.send() == SendResult(None, NOT_PUBLIC)
        assert here.heard == []


async def test_to_public_addresses_only_https_goes() -> None:
    async with server(TAKEN) as here:
        here.answers = ("127.0.0.1",)
        elsewhere = WebhooksSection(networks=("10.0.0.0/8",))
        refused = await here.send(elsewhere, public=lambda _: True)
        assert refused.error == "it must begin with https:// and have no port of its own"
        assert here.heard == []


@pytest.mark.parametrize(
    ("answer", "status", "error"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 4 * READ_BYTES, 200, None),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", 200, None),  # the body never comes
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", 302, "not followed"),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", 410, "it answered 410"),
        (b"no HTTP at all\r\n\r\n", None, "could not be reached, or broke off"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 50_000, None, "could not be reached"),
        (b"", None, "it took longer than 1 s"),
    ],
    ids=["endless", "half", "redirect", "gone", "nonsense", "headers", "silent"],
)
async def test_whatever_a_server_says_it_ends(
    answer: bytes, status: int | None, error: str | None
) -> None:
    seconds = 1.0 if error and "longer" in error else 30.0
    async with server(answer) as here:
        sent = await here.send(HERE.model_copy(update={"seconds": seconds}))
    assert sent.status == status
    assert (sent.error is None) == (error is None)
    assert (error or "") in (sent.error or "")
    assert sent.gone == (status == 410)


async def test_the_certificate_must_be_for_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr(sending, "tls", lambda: trusting)
    for name, status in (("hooks.test", 200), ("other.test", None)):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(tls)
        async with server(TAKEN, tls) as here:
            assert (await here.send(scheme="https")).status == status

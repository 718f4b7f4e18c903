"""Fetching for clients, from a real server: which addresses are asked, for what, and which not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trustme

from serve_app.access.outbound import PORTS, is_public, resolve
from serve_app.config.sections import RemoteImagesSection
from serve_app.uploads.fetching import Unfetchable, fetch

PICTURE = b"\x89PNG and so on"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 14\r\n\r\n" + PICTURE
ENDLESS = b"HTTP/1.1 200 OK\r\n\r\n"
Answer = Callable[[asyncio.StreamWriter], Coroutine[Any, Any, None]]


@dataclass
class Place:
    port: int
    heard: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    async def fetch(self, path: str = "/fox.png", scheme: str = "http", **numbers: Any) -> bytes:
        """By the name pictures.test, which this place's own resolver knows."""
        remote = RemoteImagesSection(hosts=("pictures.test",), **numbers)
        url = f"{scheme}://pictures.test:{self.port}{path}"
        return await fetch(
            url, remote, ports=(self.port,), allowed=lambda _: True, resolve=self._resolve
        )

    async def _resolve(self, host: str, _port: int) -> Sequence[str]:
        self.asked.append(host)
        return ["127.0.0.1"]


@asynccontextmanager
async def _server(
    answer: bytes | Answer, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Place]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            place.heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    place = Place(server.sockets[0].getsockname()[1])
    try:
        yield place
    finally:
        server.close()


async def test_the_request_names_the_host_and_says_nothing_of_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # not asked
    async with _server(OK) as place:
        assert await place.fetch("/a%20fox.png?size=2#part") == PICTURE
        (request,) = place.heard
    lines = request.strip().split("\r\n")
    assert lines[0] == "GET /a%20fox.png?size=2 HTTP/1.1"
    names = {line.partition(":")[0].lower(): line.partition(": ")[2] for line in lines[1:]}
    assert names["host"] == f"pictures.test:{place.port}"
    assert names.keys() == {"host", "accept", "accept-encoding", "connection", "user-agent"}
    assert place.asked == ["pictures.test"]  # once: nothing to rebind


async def _forever(writer: asyncio.StreamWriter) -> None:
    writer.write(ENDLESS)
    while True:
        writer.write(bytes(65_536))
        await writer.drain()


async def _drip(writer: asyncio.StreamWriter) -> None:
    writer.write(ENDLESS)
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.01)


async def _silent(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


@pytest.mark.parametrize(
    ("answer", "numbers", "reason"),
    [
        (b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1/\r\n\r\n", {}, "redirect"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", {}, "answered 404"),
        (b"HTTP/1.1 206 Partial\r\n\r\n", {}, "answered 206"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", {}, "could not be reached"),
        (b"", {}, "could not be reached"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nhalf", {}, "broke off"),
        (_forever, {"max_bytes": 1_000_000}, "more than 1 MB"),
        (_drip, {"seconds": 0.2}, "longer than 0.2 s"),
        (_silent, {"seconds": 0.2}, "longer than 0.2 s"),
    ],
    ids=["redirect", "404", "part", "ssh", "nothing", "half", "endless", "drip", "silent"],
)
async def test_what_is_no_picture_in_time_is_said(
    answer: bytes | Answer, numbers: dict[str, Any], reason: str
) -> None:
    async with _server(answer) as place:
        with pytest.raises(Unfetchable, match=reason):
            await place.fetch(**numbers)


async def test_a_packed_body_is_not_unpacked() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 14\r\n\r\n"
    async with _server(head + PICTURE) as place:
        assert await place.fetch() == PICTURE


async def test_https_asks_for_the_name_and_trusts_no_other_authority() -> None:
    tls, names = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[str | None]()
    trustme.CA().issue_cert("pictures.test").configure_cert(tls)
    tls.sni_callback = lambda _socket, name, _context: names.append(name)
    async with _server(OK, tls) as place:
        with pytest.raises(Unfetchable, match="could not be reached"):
            await place.fetch(scheme="https")
        assert names == ["pictures.test"]
        assert place.heard == []


async def test_one_address_that_is_not_public_is_enough() -> None:
    async def rebinding(_host: str, _port: int) -> Sequence[str]:
        return ["93.184.215.14", "10.0.0.1"]

    with pytest.raises(Unfetchable, match="not public"):
        await fetch("http://pictures.test/", RemoteImagesSection(hosts=("*",)), resolve=rebinding)


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0"),
        *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "169.254.169.254"),
    ],
)
async def test_no_spelling_of_this_machine_is_fetched_though_every_host_is_allowed(
    host: str,
) -> None:
    with pytest.raises(Unfetchable, match=r"not public|not be reached|not a URL"):
        await fetch(f"http://{host}/", RemoteImagesSection(hosts=("*",), seconds=5.0))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://evil.test/a.png", "not among"),
        ("https://pictures.test.evil.test/", "not among"),
        ("https://evil.test/pictures.test", "not among"),
        ("https://pictures.test@evil.test/", "user or a password"),
        ("https://me:word@pictures.test/", "user or a password"),
        ("https://pictures.test:22/", "port"),
        ("http://pictures.test:6379/", "port"),
        ("ftp://pictures.test/", "must begin"),
        ("file:///etc/passwd", "must begin"),
        ("//pictures.test/", "must begin"),
        ("gopher://pictures.test/", "must begin"),
        ("https://", "must begin"),
        ("https://pictures.test\\@evil.test/", "not a URL|not among|user"),
        ("https://pictures.test:99999/", "port"),
        ("http://pictures.test/\r\nX: y", "not a URL"),
        ("https://[::1", "not a URL"),
        ("https://pictures.test/" + "a" * 5000, "longer than"),
    ],
)
async def test_urls_that_are_not_asked_for(url: str, reason: str) -> None:
    with pytest.raises(Unfetchable, match=reason):
        await fetch(url, RemoteImagesSection(hosts=("pictures.test",)))


async def test_a_name_too_long_to_resolve_is_unreachable() -> None:
    with pytest.raises(Unfetchable, match="could not be reached"):
        await fetch(f"https://{'a' * 200}.test/", RemoteImagesSection(hosts=("*",), seconds=5.0))


async def test_nothing_is_fetched_until_hosts_are_allowed() -> None:
    with pytest.raises(Unfetchable, match="data: URL or a file_id"):
        await fetch("https://pictures.test/a.png", RemoteImagesSection())
    assert PORTS == (80, 443)


@pytest.mark.parametrize(
    "address",
    [
        *("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.0.1", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.2.1", "192.168.0.1", "192.88.99.1"),
        *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
        *("255.255.255.255", "::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8"),
        *("64:ff9b::a00:1", "64:ff9b::7f00:1", "64:ff9b:1::808:808", "100::1", "2001::1"),
        *("2001:db8::1", "2001:10::1", "2002:7f00:1::", "2002:808:808::", "3fff::1", "fc00::1"),
        *("fd12:3456::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "4000::1"),
        *("2130706433", "0x7f000001", "0177.0.0.1", "127.1", "", "localhost"),
    ],
)
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "93.184.215.14", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"]
)
def test_addresses_that_are_public(address: str) -> None:
    assert is_public(address)


async def test_names_are_resolved_by_the_system() -> None:
    assert await resolve("127.0.0.1", 80) == ["127.0.0.1"]
    assert set(await resolve("localhost", 80)) <= {"127.0.0.1", "::1"}

"""What a client's connection makes of every kind of request head, on a real socket."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httptools
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from serve_app import proxy
from serve_app.access import connections
from serve_app.access.connections import ClientConnection

PATIENCE_SECONDS = 20.0
BODY = b'{"prompt": "a red fox"}'
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was asked, as the application sees it."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if message["type"] == "http.disconnect":
            return
    headers = [[name.decode(), value.decode("latin-1")] for name, value in scope["headers"]]
    seen = {"path": scope["path"], "body": body.decode("latin-1"), "headers": headers}
    said = json.dumps({"method": scope["method"], **seen}).encode()
    fields = [(b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": said})


@contextmanager
def server(**options: Any) -> Iterator[int]:
    """Its port."""
    config = uvicorn.Config(
        echo, host="127.0.0.1", port=0, log_level="critical", lifespan="off", **options
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(running.serve()), daemon=True)
    thread.start()
    while not running.started:
        assert thread.is_alive()
        thread.join(0.01)
    try:
        yield running.servers[0].sockets[0].getsockname()[1]
    finally:
        running.should_exit = True
        thread.join(PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with server(http=ClientConnection) as number:
        yield number


class Answers:
    """Reads what a server says, as a client would."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.statuses: list[int] = []
        self._parser = httptools.HttpResponseParser(self)

    def read(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.bodies.append(b"")

    def on_body(self, body: bytes) -> None:
        self.bodies[-1] += body

    def on_message_complete(self) -> None:
        if (status := self._parser.get_status_code()) >= 200:
            self.statuses.append(status)
        else:
            self.bodies.pop()

    @property
    def seen(self) -> list[Any]:
        """What the application was asked."""
        return [json.loads(body) for body in self.bodies]


def ask(port: int, *packets: bytes, answers: int | None = None) -> Answers:
    """Send them one after the other. Returns after so many answers, or when the server has closed,
    which a last request that says `Connection: close` makes it do."""
    got = Answers()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        for packet in packets:
            client.sendall(packet)
            if len(packets) > 1:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while answers is None or len(got.statuses) < answers:
            data = client.recv(65_536)
            if not data:
                break
            got.read(data)
    return got


def head(*lines: str, method: str = "POST", path: str = "/order") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *lines, "", ""]).encode()


LAST = head("Connection: close", method="GET", path="/last")
JDK = ("Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQ", "Upgrade: h2c")
OFFERS = [
    JDK,
    ("Upgrade: h2c", "Connection: upgrade"),
    ("Upgrade: h2c, websocket", "Connection: keep-alive, Upgrade"),
    ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    ("Upgrade: TLS/1.0", "Connection: Upgrade"),
    ("Upgrade: foo/2", "Connection: keep-alive", "Connection: Upgrade"),
    ("Upgrade: h2c",),
    ("Connection: Upgrade",),
    ("Upgrade:", "Connection: Upgrade"),
]


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_to_upgrade_is_answered_as_plain_http(port: int, offer: tuple[str, ...]) -> None:
    length = f"Content-Length: {len(BODY)}"
    got = ask(port, head(length, *offer) + BODY + LAST)
    assert [(one["path"], one["body"]) for one in got.seen] == [
        ("/order", BODY.decode()),
        ("/last", ""),
    ]
    assert got.statuses == [200, 200]


@pytest.mark.parametrize("offer", OFFERS)
def test_the_body_of_an_offer_is_never_the_next_request(port: int, offer: tuple[str, ...]) -> None:
    length = f"Content-Length: {len(SMUGGLED)}"
    whole = head(length, *offer) + SMUGGLED + LAST
    got = ask(port, *(whole[at : at + 7] for at in range(0, len(whole), 7)))
    assert [one["path"] for one in got.seen] == ["/order", "/last"]
    assert got.seen[0]["body"] == SMUGGLED.decode()


def test_a_chunked_body_comes_with_an_offer_too(port: int) -> None:
    body = b"5;name=value\r\nhello\r\n0\r\n\r\n"
    got = ask(port, head("Transfer-Encoding: chunked", *JDK) + body + LAST)
    assert [one["body"] for one in got.seen] == ["hello", ""]


def test_other_headers_of_an_offer_stay(port: int) -> None:
    sent = ["Accept: a", "Accept: b", "X-Odd:  padded \t", "Expect: nothing", "Content-Length: 0"]
    (seen, _) = ask(port, head(*sent, *JDK) + LAST).seen
    names = [name for name, _ in seen["headers"]]
    assert seen["headers"][1:4] == [["accept", "a"], ["accept", "b"], ["x-odd", "padded"]]
    assert not {"upgrade", "http2-settings", "connection"} & set(names)


def test_a_thousand_offers_in_one_packet_are_a_thousand_requests(port: int) -> None:
    got = ask(port, head(*JDK, method="GET") * 1000 + LAST)
    assert len(got.statuses) == 1001


def test_the_connection_of_an_offer_may_be_closed(port: int) -> None:
    got = ask(port, head("Connection: close, Upgrade", "Upgrade: h2c", method="GET") + SMUGGLED)
    assert [one["path"] for one in got.seen] == ["/order"]


def test_a_body_that_waits_to_be_asked_for_is_asked_for(port: int) -> None:
    for offer in ((), JDK):
        asking = head("Expect: 100-continue", f"Content-Length: {len(BODY)}", *offer)
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
            client.sendall(asking)
            assert client.recv(65_536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(BODY)
            got = Answers()
            while not got.statuses:
                got.read(client.recv(65_536))
        assert got.seen[0]["body"] == BODY.decode()


AMBIGUOUS = {
    "two lengths": head("Content-Length: 3", "Content-Length: 40") + b"abc",
    "the same length twice": head("Content-Length: 3", "Content-Length: 3") + b"abc",
    "a list of lengths": head("Content-Length: 3, 3") + b"abc",
    "a signed length": head("Content-Length: +3") + b"abc",
    "a negative length": head("Content-Length: -3") + b"abc",
    "a hexadecimal length": head("Content-Length: 0x3") + b"abc",
    "a huge length": head("Content-Length: 99999999999999999999999") + b"abc",
    "both framings": head("Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
    "both, the other way": head("Transfer-Encoding: chunked", "Content-Length: 3") + b"0\r\n\r\n",
    "an unknown coding": head("Transfer-Encoding: identity") + b"abc",
    "chunked is not last": head("Transfer-Encoding: chunked, gzip") + b"0\r\n\r\n",
    "chunked twice": head("Transfer-Encoding: chunked", "Transfer-Encoding: x") + b"0\r\n\r\n",
    "a folded header": head("X-A: b", " c", "Content-Length: 3") + b"abc",
    "a folded length": head("Content-Length:", " 3") + b"abc",
    "a space before the colon": head("Content-Length : 3") + b"abc",
    "a bare CR": head("X-A: b\rContent-Length: 3") + b"abc",
    "a bare LF": head("X-A: b\nContent-Length: 3") + b"abc",
    "a NUL": head("X-A: b\0c") + b"abc",
    "a chunk's size is no number": head("Transfer-Encoding: chunked") + b"x\r\n",
    "a chunk's size is signed": head("Transfer-Encoding: chunked") + b"-3\r\nabc\r\n0\r\n\r\n",
    "a chunk is longer than it says": head("Transfer-Encoding: chunked") + b"1\r\nabc\r\n0\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two Hosts": head("Host: y", method="GET"),
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("offer", [(), JDK], ids=["plain", "offering"])
@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_could_be_read_in_two_ways_ends_the_connection(
    port: int, name: str, offer: tuple[str, ...]
) -> None:
    first, separator, rest = AMBIGUOUS[name].partition(b"\r\n")
    lines = "".join(f"{line}\r\n" for line in offer).encode()
    got = ask(port, first + separator + lines + rest + SMUGGLED)
    assert got.statuses == [405 if name == "CONNECT" else 400]
    assert json.loads(got.bodies[0])["error"]["type"] == "invalid_request_error"


def test_the_answer_before_a_malformed_request_still_comes(port: int) -> None:
    got = ask(port, head(method="GET", path="/first") + b"nonsense\r\n\r\n" + SMUGGLED)
    assert [one["path"] for one in got.seen] == ["/first"]


def test_trailers_are_no_headers(port: int) -> None:
    trailers = b"3\r\nabc\r\n0\r\nAuthorization: Bearer sk-other\r\nX-Late: 1\r\n\r\n"
    got = ask(port, head("Transfer-Encoding: chunked", "Trailer: X-Late") + trailers + LAST)
    names = [name for name, _ in got.seen[0]["headers"]]
    assert names == ["host", "transfer-encoding", "trailer"]


LARGE = {
    "a long URL": head(path=f"/{'a' * 70_000}", method="GET"),
    "a long header": head(f"X-A: {'a' * 70_000}", method="GET"),
    "many headers": head(*(f"X-{n}: a" for n in range(200)), method="GET"),
    "an endless URL": b"GET /" + b"a" * 400_000,
    "an endless header": head(f"X-A: {'a' * 400_000}", method="GET")[:-4],
    "an endless name": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 400_000,
}


@pytest.mark.parametrize("name", LARGE)
def test_heads_are_bounded(port: int, name: str) -> None:
    got = Answers()
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
        try:
            client.sendall(LARGE[name])
            while data := client.recv(65_536):
                got.read(data)
        except (ConnectionResetError, BrokenPipeError):
            pass  # what was not read of it makes the kernel reset the connection
    assert got.statuses in ([431], [])


def test_a_large_head_is_answered(port: int) -> None:
    assert ask(port, LARGE["many headers"]).statuses == [431]


@contextmanager
def impatient(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Iterator[int]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.2)
    with server(http=ClientConnection, **options) as port:
        yield port


HALVES: dict[str, tuple[list[bytes], list[int]]] = {
    "silent": ([b""], []),
    "half of a head": ([head()[:-2]], [408]),
    "only line ends": ([b"\r\n"], [408]),
    "silent after an answer": ([head("Content-Length: 9", method="GET") + b"only half"], [200]),
    "half of a second head": ([head(method="GET"), b"GET / HT"], [200, 408]),
    "line ends after an answer": ([head(method="GET"), b"\r\n"], [200, 408]),
}


@pytest.mark.parametrize("name", HALVES)
def test_a_head_must_come_in_time(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    packets, statuses = HALVES[name]
    said = Answers()
    with (
        impatient(monkeypatch, timeout_keep_alive=1) as port,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client,
    ):
        for packet in packets:
            client.sendall(packet)
            if packet is not packets[-1]:
                said.read(client.recv(65_536))
        while data := client.recv(65_536):
            said.read(data)
    assert said.statuses == statuses


def test_dripping_does_not_buy_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with impatient(monkeypatch) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(0.02)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-A: ")
        for _ in range(1000):
            try:
                client.sendall(b"a")
                if client.recv(65_536):
                    break
            except TimeoutError:
                continue
        else:
            pytest.fail("it is still open")


def test_a_slow_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is of heads alone: here a body comes after it."""
    with (
        impatient(monkeypatch) as port,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client,
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as silent,
    ):
        client.sendall(head("Content-Length: 3", "Connection: close"))
        assert silent.recv(1) == b""  # the limit is over
        client.sendall(b"abc")
        got = Answers()
        while data := client.recv(65_536):
            got.read(data)
    assert got.seen[0]["body"] == "abc"


def test_the_oldest_silent_connection_gives_up_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_AWAITING", 3)
    with server(http=ClientConnection) as port:
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
        assert ask(port, LAST).statuses == [200]
        silent[0].settimeout(PATIENCE_SECONDS)
        assert silent[0].recv(1) == b""
        silent[2].sendall(LAST)
        silent[2].settimeout(PATIENCE_SECONDS)
        assert silent[2].recv(1) == b"H"
        for one in silent:
            one.close()


def test_serve_gets_it_where_it_leaves_the_choice_to_uvicorn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(uvicorn.config.HTTP_PROTOCOLS, "auto", "nothing")
    proxy.middlewares()
    config = uvicorn.Config(lambda: echo, factory=True)
    config.load()
    assert config.http_protocol_class is ClientConnection

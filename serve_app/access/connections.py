"""A client's connection: uvicorn's HTTP/1.1 with what uvicorn leaves open. Serve's proxies, or in
HAProxy mode its replicas, load it by an environment variable
(serve_app/operate/local_cluster.py, k8s/chart).

* An Upgrade is an offer (RFC 9110 7.8). Nothing is upgraded here, so the request is answered as
  plain HTTP/1.1 with its body. httptools stops before that body, and uvicorn would go on there as
  if it were the next request.
* A head must come within `HEAD_SECONDS`, of at most `HEAD_BYTES` and `HEADERS` fields; of the
  connections that have not sent one, `MOST_AWAITING` stay open, and one more closes the oldest.
* Trailers are not headers (RFC 9110 6.5.1), and there is one Host (RFC 9112 3.2).
* White space behind a header's value is not part of it (RFC 9110 5.5).
* After a request that cannot be read, nothing on that connection is read any more.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from weakref import WeakKeyDictionary

import httptools
from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

HEAD_SECONDS = 20.0
HEAD_BYTES = 65_536
HEADERS = 128
MOST_AWAITING = 1024
"""Far more than come at once on purpose: an honest client sends its head with its first packet."""

_NOT_KEPT = (b"connection", b"upgrade", b"http2-settings")


def use_for_every_server() -> list[Middleware]:
    """Of this process, from the next one on that leaves the choice to uvicorn, as Serve does. An
    import path for Serve's callback before that, which wants to know middlewares: here are none."""
    HTTP_PROTOCOLS["auto"] = f"{__name__}:{ClientConnection.__name__}"
    return []


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Said by the connection itself: no application has seen the request."""

    status: HTTPStatus
    code: str
    message: str

    def encoded(self) -> bytes:
        """The whole answer, in the envelope of every other error."""
        error = {
            "message": self.message,
            "type": "invalid_request_error",
            "param": None,
            "code": self.code,
        }
        body = json.dumps({"error": error}).encode()
        head = (
            f"HTTP/1.1 {self.status.value} {self.status.phrase}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
            "connection: close\r\n\r\n"
        )
        return head.encode() + body


_MALFORMED = _Refusal(
    HTTPStatus.BAD_REQUEST, "invalid_http", "This is not a valid HTTP/1.1 request."
)
_ONE_HOST = _Refusal(
    HTTPStatus.BAD_REQUEST, "invalid_host", "An HTTP/1.1 request must have one Host header."
)
_LARGE_HEAD = _Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "headers_too_large",
    f"The URL and headers may have {HEAD_BYTES} bytes together, in {HEADERS} headers.",
)
_NO_TUNNEL = _Refusal(
    HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", "There is no CONNECT here."
)
_SLOW_HEAD = _Refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    "request_timeout",
    f"The request's headers did not arrive within {HEAD_SECONDS:g} seconds.",
)


class _Unacceptable(Exception):
    """Stops the parser; why is in `_problem`."""


class ClientConnection(HttpToolsProtocol):
    """One connection, on its server's event loop."""

    _all_awaiting: WeakKeyDictionary[ServerState, OrderedDict[ClientConnection, None]] = (
        WeakKeyDictionary()
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._awaiting = self._all_awaiting.setdefault(self.server_state, OrderedDict())
        self._problem = _MALFORMED
        self._in_head = True
        self._head_bytes = 0
        self._patience: asyncio.TimerHandle | None = None
        self._input_ignored = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A head is expected from now on."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is expected any more."""
        self._stop_awaiting()
        self._input_ignored = True
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read as many requests as are in it."""
        if self._input_ignored:
            return
        self._unset_keepalive_if_required()
        was_in_head = self._in_head
        try:
            self._parse(data)
        except httptools.HttpParserError:
            self._refuse(self._problem)
            return
        if self._in_head and was_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(_LARGE_HEAD)
                return
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()  # or the rest of a body that was refused unread

    def _parse(self, data: bytes) -> None:
        """Raises HttpParserError."""
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as stop:
                rest = rest[stop.args[0] :]
                if self.scope["method"] == "CONNECT":
                    self._problem = _NO_TUNNEL
                    raise httptools.HttpParserError("CONNECT") from None
                head = self._plain_head()
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                self.parser.feed_data(head)

    def _plain_head(self) -> bytes:
        """The head that was just read, without its offers to upgrade."""
        options = b", ".join(
            token.strip()
            for name, value in self.headers
            if name == b"connection"
            for token in value.split(b",")
            if token.strip().lower() not in _NOT_KEPT
        )
        kept = [(name, value) for name, value in self.headers if name not in _NOT_KEPT]
        if options:
            kept.append((b"connection", options))
        version = self.scope.get("http_version", "1.1").encode()
        lines = [b"%s %s HTTP/%s" % (self.scope["method"].encode(), self.url, version)]
        lines += [b"%s: %s" % header for header in kept]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _should_upgrade(self) -> bool:
        """uvicorn then leaves a request alone that offers to upgrade, until `_parse` has it."""
        return True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of the head, or of the trailers."""
        if not self._in_head:
            return
        if len(self.headers) >= HEADERS:
            self._stop(_LARGE_HEAD)
        super().on_header(name, value.strip(b" \t"))  # llhttp leaves what stands behind it

    def on_headers_complete(self) -> None:
        """The application may answer."""
        if not self.parser.should_upgrade():
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > HEAD_BYTES:
                self._stop(_LARGE_HEAD)
            hosts = sum(name == b"host" for name, _ in self.headers)
            if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
                self._stop(_ONE_HOST)
            self._in_head = False
            self._stop_awaiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """What comes next is another head."""
        super().on_message_complete()
        if not self.parser.should_upgrade():
            self._in_head, self._head_bytes = True, 0

    def _stop(self, problem: _Refusal) -> None:
        self._problem = problem
        raise _Unacceptable

    def _await_head(self) -> None:
        if self._patience is not None:
            return
        if len(self._awaiting) >= MOST_AWAITING:
            next(iter(self._awaiting))._time_out()
        self._awaiting[self] = None
        self._patience = self.loop.call_later(HEAD_SECONDS, self._time_out)

    def _stop_awaiting(self) -> None:
        self._awaiting.pop(self, None)
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _time_out(self) -> None:
        if self._in_head and self._head_bytes:
            self._refuse(_SLOW_HEAD)
            return
        self._stop_awaiting()
        self._input_ignored = True
        self.transport.close()

    def _refuse(self, refusal: _Refusal) -> None:
        """End the connection after the answers that are on their way; say why if there are none."""
        self._stop_awaiting()
        self._input_ignored = True
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and not self.cycle.more_body:
            self.cycle.keep_alive = False  # a whole request was before it; that answer is the last
            return
        if not (answering and (self.pipeline or self.cycle.response_started)):
            self.transport.write(refusal.encoded())
        self.transport.close()

"""A server that webhooks are sent to: it keeps what came, and answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import openai

NETWORKS = {"networks": ["127.0.0.0/8"]}
"""The `webhooks` section of a config that lets deliveries reach it."""


@dataclass(frozen=True)
class Received:
    """One delivery."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The event's, which stays the same when it is sent again."""
        return self.headers["webhook-id"]

    def event(self, secret: str) -> dict[str, object]:
        """As the official SDK reads it. Raises InvalidWebhookSignatureError."""
        client = openai.OpenAI(api_key="none", webhook_secret=secret)
        return client.webhooks.unwrap(self.body, self.headers).to_dict()


@dataclass
class Receiver:
    """A running one. answer: the status for what came, which may wait; with a location for a
    redirect."""

    url: str
    received: list[Received] = field(default_factory=list)
    answer: Callable[[Received], int] = lambda _: 200


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextmanager
def receiver() -> Iterator[Receiver]:
    """On a loopback port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            one = Received(self.path, headers, body)
            here.received.append(one)
            status = here.answer(one)
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"{here.url}/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    here = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

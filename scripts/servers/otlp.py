"""A receiver of OpenTelemetry spans, OTLP over HTTP: there is no collector to install."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

PATH = "/v1/traces"


@dataclass(frozen=True)
class SpanReceiver:
    """What came so far. url: of its endpoint."""

    url: str
    spans: list[Span] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of each request."""

    def named(self, name: str) -> list[Span]:
        """Those of a name, in the order of their arrival."""
        return [span for span in self.spans if span.name == name]


def attributes(span: Span) -> dict[str, str | int | bool | float]:
    """What a span says of itself."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


@contextmanager
def span_receiver() -> Iterator[SpanReceiver]:
    """On a free port of loopback."""

    class Receive(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            said = ExportTraceServiceRequest.FromString(body)
            receiver.headers.append({name.lower(): value for name, value in self.headers.items()})
            for of_process in said.resource_spans:
                for scope in of_process.scope_spans:
                    receiver.spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receive)
    receiver = SpanReceiver(f"http://127.0.0.1:{server.server_port}{PATH}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

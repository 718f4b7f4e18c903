"""Spans of requests that change something, and the trace context in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.traces.settings import TraceContext
from serve_app.wire.operations import OPERATIONS

if TYPE_CHECKING:
    from deployments.traces.exporter import RequestSpan, TraceExporter

_KEY = "meltproof.trace"


def trace_of(scope: Scope) -> str | None:
    """What jobs that this request orders are traced below; None if they are not."""
    context: TraceContext | None = scope.get(_KEY)
    return str(context) if context is not None and context.sampled else None


class RequestTraces:
    """Goes on with the trace that a client names in `traceparent`, or begins one, and says which in
    `traceresponse`. Polls are no part of it: a job has one trace, however often it is looked at."""

    def __init__(self, app: ASGIApp, exporter: TraceExporter) -> None:
        self._app = app
        self._exporter = exporter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self._app(scope, receive, send)
            return
        above = TraceContext.parse(Headers(scope=scope).get("traceparent"))
        method = scope["method"]
        span = self._exporter.request(method, above, {"http.request.method": method})
        scope[_KEY] = span.context
        status, job = 0, None

        async def told(message: Message) -> None:
            nonlocal status, job
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                status, job = message["status"], headers.get("x-job-id")
                headers["traceresponse"] = str(span.context)
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            _end(span, scope, status, job)


def _end(span: RequestSpan, scope: Scope, status: int, job: str | None) -> None:
    """Named by the operation, not by the path that a client made up."""
    operation = OPERATIONS.get(scope.get("endpoint", _end), {}).get("operationId")
    said: dict[str, str | int] = {"http.response.status_code": status}
    if job is not None:
        said["meltproof.job"] = job
    span.end(operation, said, failed=not 0 < status < 500)

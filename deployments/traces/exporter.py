"""Sends spans to a collector: the one file that knows OpenTelemetry."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from deployments.traces.settings import TraceContext, TraceSettings, is_sampled
from deployments.traces.spans import StageSpan, Value

WAITING_SPANS = 16_384
"""Beyond these, while the collector is away or slow, new ones are dropped: no order waits."""
EXPORT_SECONDS = 5.0
"""Of one request to the collector."""


@dataclass(frozen=True, slots=True)
class RequestSpan:
    """One request at a gateway. context: for what belongs to it, and for its answer."""

    context: TraceContext
    _span: trace.Span

    def end(self, name: str | None, said: Mapping[str, Value], *, failed: bool) -> None:
        """It was answered. name: what it turned out to be."""
        if name is not None:
            self._span.update_name(name)
        self._span.set_attributes(said)
        if failed:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end()


class TraceExporter:
    """Of one process. Every call returns at once; sending has a thread of its own, and what it
    cannot send is dropped."""

    def __init__(self, settings: TraceSettings, part: str) -> None:
        """part: of the service, such as dispatcher. ValueError without an endpoint."""
        if settings.endpoint is None:
            raise ValueError("traces have no endpoint")
        self._share = settings.share
        self._ids = _GivenIds()
        # Everything is said here: the SDK would read the rest from the environment.
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource({"service.name": "meltproof", "service.instance.id": part}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        exporter = OTLPSpanExporter(
            endpoint=settings.endpoint, headers=dict(settings.headers), timeout=EXPORT_SECONDS
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter, WAITING_SPANS))
        self._tracer = self._provider.get_tracer("meltproof")

    def request(
        self, name: str, above: TraceContext | None, said: Mapping[str, Value]
    ) -> RequestSpan:
        """Begins now. above: as the client sent it; None begins a trace."""
        trace_id = random.getrandbits(128) or 1 if above is None else above.trace_id
        if not is_sampled(trace_id, self._share):
            own = TraceContext(trace_id, random.getrandbits(64) or 1, sampled=False)
            return RequestSpan(own, trace.INVALID_SPAN)
        if above is None:
            self._ids.trace_id = trace_id
        span = self._tracer.start_span(name, _below(above), trace.SpanKind.SERVER, said)
        return RequestSpan(TraceContext(trace_id, span.get_span_context().span_id), span)

    def image(self, above: TraceContext, image: str, stages: StageSpan) -> None:
        """An image that was settled, below the request that ordered it."""
        self._ids.span_id = above.of_image(image).span_id
        self._stage(stages, _below(above))

    def passed(
        self, image: TraceContext, end_seconds: float, seconds: float, said: Mapping[str, Value]
    ) -> None:
        """A pass of an image, below that image's span. end_seconds: since the epoch."""
        begin = _nanoseconds(end_seconds - seconds)
        span = self._tracer.start_span("pass", _below(image), attributes=said, start_time=begin)
        span.end(_nanoseconds(end_seconds))

    def close(self) -> None:
        """Send what waits, and end. Takes up to EXPORT_SECONDS."""
        self._provider.shutdown()

    def _stage(self, stage: StageSpan, below: Context | None) -> None:
        span = self._tracer.start_span(
            stage.name, below, attributes=stage.said, start_time=_nanoseconds(stage.begin)
        )
        for part in stage.inside:
            self._stage(part, trace.set_span_in_context(span, Context()))
        if stage.failed:
            span.set_status(trace.StatusCode.ERROR)
        span.end(_nanoseconds(stage.end))


class _GivenIds(RandomIdGenerator):
    """Random ids, but for the next one that is given. Per thread."""

    def __init__(self) -> None:
        self._next = threading.local()

    @property
    def trace_id(self) -> int | None:
        """The next new trace's."""
        return getattr(self._next, "trace_id", None)

    @trace_id.setter
    def trace_id(self, given: int | None) -> None:
        self._next.trace_id = given

    @property
    def span_id(self) -> int | None:
        """The next span's."""
        return getattr(self._next, "span_id", None)

    @span_id.setter
    def span_id(self, given: int | None) -> None:
        self._next.span_id = given

    def generate_trace_id(self) -> int:
        """See IdGenerator."""
        given, self.trace_id = self.trace_id, None
        return given or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """See IdGenerator."""
        given, self.span_id = self.span_id, None
        return given or super().generate_span_id()


def _below(above: TraceContext | None) -> Context:
    """A context whose span is in another process; the empty one for None."""
    if above is None:
        return Context()
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED)
    parent = trace.SpanContext(above.trace_id, above.span_id, is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(trace.NonRecordingSpan(parent), Context())


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)

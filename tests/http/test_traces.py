"""One trace an order: from the client's own context to every pass, sent to a real receiver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from deployments.traces.settings import TraceContext, is_sampled
from scripts.servers.otlp import SpanReceiver, attributes, span_receiver
from tests.page.pipeline import CONFIG, Pipeline

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
KEY = {"authorization": "Bearer sk-local"}


def traced(directory: Path, receiver: SpanReceiver, **section: Any) -> Pipeline:
    settings = {**CONFIG, "traces": {"endpoint": receiver.url, **section}}
    return Pipeline(directory, settings)


def order(service: Pipeline, headers: dict[str, str] | None = None, **body: Any) -> httpx.Response:
    url = f"{service.url}v1/images/generations"
    said = {"prompt": "an owl", "quality": "low", **body}
    return httpx.post(url, json=said, headers=KEY | (headers or {}))


def test_an_order_is_one_trace_from_the_clients_context_to_every_pass(tmp_path: Path) -> None:
    with span_receiver() as receiver:
        service = traced(tmp_path, receiver, headers={"authorization": "Basic b3RlbA=="})
        try:
            answer = order(service, {"traceparent": f"00-{TRACE}-{ABOVE}-01"}, n=2)
        finally:
            service.close()
    assert answer.status_code == 200
    spans = {span.span_id: span for span in receiver.spans}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    (request,) = receiver.named("createImages")
    assert request.parent_span_id.hex() == ABOVE
    assert answer.headers["traceresponse"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    job = answer.headers["x-job-id"]
    assert attributes(request)["meltproof.job"] == job
    images = receiver.named("image")
    assert [attributes(image)["meltproof.state"] for image in images] == ["succeeded"] * 2
    assert {image.parent_span_id for image in images} == {request.span_id}
    for image in images:
        assert stages_of(image, spans) == ["queue", "lease"]
        (lease,) = (
            s for s in spans.values() if s.parent_span_id == image.span_id if s.name == "lease"
        )
        assert stages_of(lease, spans) == ["encode", "render", "screen", "finish", "store"]
        passes = [
            s for s in spans.values() if s.name == "pass" and s.parent_span_id == image.span_id
        ]
        assert sorted(int(attributes(s)["meltproof.pass"]) for s in passes) == [*range(1, 9)]
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans.values())
    assert {said["authorization"] for said in receiver.headers} == {"Basic b3RlbA=="}
    assert "an owl" not in repr(receiver.spans)


def stages_of(above: Span, spans: dict[bytes, Span]) -> list[str]:
    """Names of those below it that are no passes, in order of time."""
    below = [span for span in spans.values() if span.parent_span_id == above.span_id]
    stages = [span for span in below if span.name != "pass"]
    stages.sort(key=lambda span: (span.start_time_unix_nano, span.end_time_unix_nano))
    return [span.name for span in stages]


def test_what_is_refused_is_traced_and_a_made_up_context_begins_a_new_trace(
    tmp_path: Path,
) -> None:
    with span_receiver() as receiver:
        service = traced(tmp_path, receiver)
        try:
            answer = order(service, {"traceparent": f"00-{'0' * 32}-{ABOVE}-01"}, size="1x1")
            httpx.get(f"{service.url}v1/limits", headers=KEY)
        finally:
            service.close()
    assert answer.status_code == 400
    (span,) = receiver.spans
    assert span.name == "createImages"
    assert not span.parent_span_id
    assert span.trace_id.hex() in answer.headers["traceresponse"]
    assert attributes(span)["http.response.status_code"] == 400
    assert span.status.code == Status.STATUS_CODE_UNSET, "the client's fault is no failure of ours"


def test_a_share_decides_by_the_trace_and_not_by_the_clients_flag(tmp_path: Path) -> None:
    with span_receiver() as receiver:
        service = traced(tmp_path, receiver, share=0.0)
        try:
            answer = order(service, {"traceparent": f"00-{TRACE}-{ABOVE}-01"})
        finally:
            service.close()
    assert answer.status_code == 200
    assert answer.headers["traceresponse"].startswith(f"00-{TRACE}-")
    assert answer.headers["traceresponse"].endswith("-00")
    assert receiver.spans == []


def test_orders_do_not_wait_for_a_collector_that_is_away(tmp_path: Path) -> None:
    with span_receiver() as receiver:
        url = receiver.url
    service = Pipeline(tmp_path, {**CONFIG, "traces": {"endpoint": url}})
    try:
        assert order(service).status_code == 200
    finally:
        service.close()


@pytest.mark.parametrize(
    "made_up",
    [
        None,
        "",
        f"01-{TRACE}-{ABOVE}-01",
        f"00-{TRACE.upper()}-{ABOVE}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{ABOVE}-01\n",
        f"00-{TRACE}-{ABOVE}-01-more",
    ],
)
def test_only_contexts_of_version_00_are_read(made_up: str | None) -> None:
    assert TraceContext.parse(made_up) is None


def test_a_share_takes_that_many_traces() -> None:
    ids = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(1, 2001)]
    assert sum(is_sampled(one, 0.25) for one in ids) == pytest.approx(500, abs=20)
    assert all(is_sampled(one, 1.0) for one in (*ids, 2**128 - 1))
    assert not any(is_sampled(one, 0.0) for one in (*ids, 2**64))

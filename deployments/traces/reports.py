"""What dispatchers and decoders tell, as spans."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from deployments.metrics.recorder import Metrics
from deployments.metrics.reports import DispatchMetrics
from deployments.traces.settings import TraceContext, TraceSettings
from deployments.traces.spans import StageSpan, Value, image_span
from dispatch.metering import SettledImage
from engine.scheduled_render import ScheduledRender

if TYPE_CHECKING:
    from deployments.traces.exporter import TraceExporter


def exporter_of(settings: TraceSettings, part: str) -> TraceExporter | None:
    """None where no endpoint is configured. OpenTelemetry is loaded for the others
    alone: it takes as long as the rest of a small replica."""
    if settings.endpoint is None:
        return None
    from deployments.traces.exporter import TraceExporter

    return TraceExporter(settings, part)


class Spans(Protocol):
    """See TraceExporter."""

    def image(self, above: TraceContext, image: str, stages: StageSpan) -> None:
        """See TraceExporter."""

    def passed(
        self, image: TraceContext, end_seconds: float, seconds: float, said: Mapping[str, Value]
    ) -> None:
        """See TraceExporter."""


class TracedDispatch(DispatchMetrics):
    """Counts, and writes the spans of every image whose order is traced once it is settled: its
    whole life, of which the ledger keeps what earlier dispatchers did."""

    def __init__(self, metrics: Metrics, model: str, spans: Spans) -> None:
        super().__init__(metrics, model)
        self._spans = spans

    def settled(self, image: SettledImage) -> None:
        """See Metering."""
        super().settled(image)
        if (above := TraceContext.parse(image.job.request.trace)) is not None:
            self._spans.image(above, f"{image.job.id}/{image.index}", image_span(image))


def trace_pass(
    spans: Spans, replica: str, batch: Sequence[ScheduledRender], seconds: float
) -> None:
    """A span for each render of the batch whose order is traced. See engine.passes.Passed."""
    now = time.time()
    for render in batch:
        if (above := TraceContext.parse(render.spec.trace)) is not None:
            said: dict[str, Value] = {
                "meltproof.pass": render.next_pass,
                "meltproof.batch": len(batch),
                "meltproof.replica": replica,
            }
            image = render.spec.render_id.rpartition("/")[0]  # the same in whichever dispatch
            spans.passed(above.of_image(image), now, seconds, said)

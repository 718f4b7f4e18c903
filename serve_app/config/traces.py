"""The section `traces`: where spans of orders go."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deployments.traces.settings import TraceSettings
from serve_app.config.secret_fields import Secret
from serve_app.config.sections import Section


class TracesSection(Section):
    """OpenTelemetry, off unless there is an endpoint."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^/?#\s@]+/[^?#\s]*$")] | None = None
    """Of a collector, OTLP over HTTP: http://collector:4318/v1/traces."""
    headers: Annotated[dict[str, Annotated[str, Secret()]], Field(repr=False)] = {}
    """That it wants, such as `authorization`."""
    share: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 1.0
    """Of the orders that are traced, by their trace id."""

    def settings(self) -> TraceSettings:
        """As replicas take it."""
        return TraceSettings(self.endpoint, tuple(self.headers.items()), self.share)

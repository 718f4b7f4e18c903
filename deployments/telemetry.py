"""What a replica tells of itself, and where: metrics, traces, logs."""

from __future__ import annotations

from dataclasses import dataclass, field

from deployments.logs import LogSettings
from deployments.metrics.settings import OFF, MetricsSettings
from deployments.traces.settings import TraceSettings


@dataclass(frozen=True, slots=True)
class Telemetry:
    """All of it is off, unless it is configured."""

    model: str = ""
    """Of a process that works for one."""
    metrics: MetricsSettings = OFF
    traces: TraceSettings = field(default_factory=TraceSettings)
    logs: LogSettings = field(default_factory=LogSettings)


TELL_NOTHING = Telemetry()
